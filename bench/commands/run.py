"""`nas-arena run`."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.commands.console import complain, show

RUN_USAGE = """\
Run strategies on a search space; rank them; say where the report lies.

  nas-arena run experiment=quickstart
  nas-arena run strategy=local_search dataset=cifar100 budget.limit=500 seeds=200
  nas-arena run -m strategy=random_search,local_search budget.limit=50,200
  nas-arena run ... jobs=2           processes on this machine
  nas-arena run ... workers=8        architectures evaluated at a time, simulated for a table

What is finished is kept: run the same command again after an interruption and it goes on.
The report lies in results/report/NAME; another run of the same name= takes its place.
-m runs every combination of comma-separated values; --cfg job shows the whole configuration,
where every key, such as strategy.population_size, can be set.
"""


def run(words: list[str]) -> int:
    """`nas-arena run`: compose the cells, run what is not sealed, report."""
    gc.disable()  # until the runs start: composing makes no garbage worth looking for
    from bench import compose, parts

    if "-h" in words or "--help" in words:
        print(RUN_USAGE)
        for group in compose.GROUPS:
            print(f"{group}=")
            for name, text in parts.options(group).items():
                print(f"  {name:24s} {text}")
        print("\nOther keys, with their defaults:")
        config = (parts.conf_folder() / "config.yaml").read_text(encoding="utf-8")
        settings = config.split("\n\n")[1]
        print("\n".join(f"  {line}" for line in settings.splitlines()))
        return 0
    multirun = {"-m", "--multirun"} & set(words)
    overrides = [word for word in words if word not in ("-m", "--multirun")]
    if any(word.startswith(("-", "hydra/launcher=", "hydra/sweeper=")) for word in overrides):
        return _run_under_hydra(words)
    try:
        return _run_plan(compose.plan(overrides, multirun=bool(multirun)))
    except compose.ConfigError as error:
        return complain(error.problems)


def _run_under_hydra(words: list[str]) -> int:
    """Hydra's own flags and launchers; a job is then a call of `run` with its overrides.

    Every job has a comparison of its own, `<name>-<number of the job>`; `nas-arena report`
    puts them side by side.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from bench.parts import conf_folder

    def job(config: Any) -> None:
        words = list(HydraConfig.get().overrides.task)
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            words.append(f"name={config.name}-{HydraConfig.get().job.num}")
        if status := run(words):
            raise RuntimeError(f"nas-arena run {' '.join(words)} ended with status {status}")

    sys.argv = ["nas-arena run", *words]
    decorate = hydra.main(
        version_base="1.3", config_path=str(conf_folder().resolve()), config_name="config"
    )
    decorate(job)()
    return 0


def _run_plan(plan: Any) -> int:
    from bench.report import ReportError, write_report
    from bench.run import execute, jobs_for, unready
    from bench.store import StoreError, write_grid

    settings, cells = plan.settings, plan.cells
    jobs = settings.jobs or jobs_for(cells)
    results = Path(settings.results).resolve()
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    gc.freeze()
    gc.enable()
    failures: list[str] = []
    try:
        if problems := unready(cells, seeds, results, jobs=jobs):
            return complain(problems)
        folders = [cell.folder(results) for cell in cells]
        write_grid(results, settings.name, seeds, folders)
        with _progress(cells, len(seeds)) as tick:
            failures = execute(cells, seeds, results, jobs=jobs, progress=tick)
        summary = write_report(
            results,
            results / "report" / settings.name,
            folders=[folder.name for folder in folders],
            expected={folder.name: seeds for folder in folders},
            figures=settings.figures,
        )
    except ReportError as error:
        return complain(failures or [str(error)], status=1)
    except StoreError as error:
        return complain([str(error)], status=3)
    except OSError as error:
        return complain([f"{error.filename or results}: {error.strerror}"])
    show(summary)
    if not settings.figures:
        print(f"Figures: nas-arena report name={settings.name} results={settings.results}")
    return complain(failures, status=1) if failures else 0


@contextmanager
def _progress(cells: Sequence[Any], seeds: int) -> Iterator[Callable[[Any, int], None]]:
    """One bar of cells, one of their steps, which are runs or what dear runs count.

    Nothing where nobody looks.
    """
    if not sys.stderr.isatty():
        yield lambda cell, done: None
        return
    from tqdm import tqdm

    units = {cell.budget.clock.rstrip("s") if cell.steps > 1 else "run" for cell in cells}
    unit = units.pop() if len(units) == 1 else "step"
    total = sum(cell.steps for cell in cells) * seeds
    finished: Counter[int] = Counter()
    with (
        tqdm(total=len(cells), unit="cell", desc="cells") as of_cells,
        tqdm(total=total, unit=unit, desc=f"{unit}s", leave=False) as of_steps,
    ):

        def tick(cell: Any, done: int) -> None:
            finished[id(cell)] += done
            of_steps.update(done)
            if done and finished[id(cell)] == seeds * cell.steps:
                of_cells.update()
                of_cells.set_postfix_str(cell.names["strategy"])

        yield tick
