# Each target does all of its own set-up; `make demo` and `make test` are the ones to start with.
PYTHON ?= python3.11
VENV ?= .venv
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
BIN = $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test test-slow check golden bench published clean

demo: $(VENV)/.installed  ## six strategies on NAS-Bench-201, then the report
	$(BIN)/nas-arena run experiment=quickstart jobs=$(JOBS) $(if $(RESULTS),results=$(RESULTS))

test: $(VENV)/.dev  ## the tests, without the slow ones
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.dev  ## all tests
	$(BIN)/pytest -m ""

check: $(VENV)/.dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden: $(VENV)/.dev  ## write the golden files anew; raise RESULTS_VERSION if they change
	$(BIN)/python tests/test_golden.py

bench: $(VENV)/.dev  ## the speed ratios; PEERS=python of an environment with optuna and nats_bench
	$(BIN)/python tests/benchmarks/run_all.py $(if $(PEERS),--peers $(PEERS))

published: demo  ## renew the leaderboard that is committed; its table stands in the README too
	cp results/report/quickstart/*.md results/report/quickstart/*.csv results/report/quickstart/*.png \
	  results/quickstart

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) ".[dev]"
	touch $@ $(VENV)/.installed
