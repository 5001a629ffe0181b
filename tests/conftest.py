"""One fixture parameter for every yaml in `conf`: what is registered there is tested here."""

import os
from pathlib import Path

import pytest
from hydra.utils import instantiate
from hypothesis import HealthCheck, settings
from omegaconf import OmegaConf

from bench import cli

CONF = Path(__file__).parent.parent / "conf"

unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=25, derandomize=True, **unhurried)
settings.register_profile("long", max_examples=1000, **unhurried)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def every(group):
    return {"params": sorted(CONF.glob(f"{group}/*.yaml")), "ids": lambda path: path.stem}


def build(path):
    return instantiate(OmegaConf.load(path), _convert_="all")


@pytest.fixture(scope="module", **every("space"))
def space(request):
    return build(request.param)


@pytest.fixture(scope="module", **every("strategy"))
def strategy(request):
    """A factory: `strategy(space, rng, fidelities)` makes a fresh one."""
    return build(request.param)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """`call("build", "space=chain")`: exit status, stdout and stderr, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as raised:
            cli.main([*words])
        out, err = capsys.readouterr()
        return int(raised.value.code or 0), out, err

    return run
