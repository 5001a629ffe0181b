"""The command line: `nas-arena run | report | data | space | build | parity | retrain`."""

import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

USAGE = """\
NAS Arena compares neural-architecture-search strategies fairly.

  nas-arena run [KEY=VALUE ...]     run strategies on a search space, then rank them
  nas-arena report [KEY=VALUE ...]  figures and leaderboards of everything that has been run
  nas-arena data list [NAME]        benchmark tables: what is here, where the rest is published
  nas-arena data get NAME           download a published file, or say where it is
  nas-arena data import NAME        make a table from a published file
  nas-arena data verify             check the tables that are here
  nas-arena data spaces             the search spaces, with their sizes and tables
  nas-arena space NAME              what a search space looks like: size, errors, landscape
  nas-arena build [KEY=VALUE ...]   train a whole space, or some of it, into a table
  nas-arena parity [KEY=VALUE ...]  train some rows of a table again, and compare
  nas-arena retrain RUN             train what a run found on all data, test it, keep its weights

Start with `nas-arena run experiment=quickstart`; each command has --help."""

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

REPORT_USAGE = """\
Figures and leaderboards, from sealed runs only.

  nas-arena report [results=results]  folder of the runs
                   [name=NAME]        only the comparison of this name; by default all runs
                   [clock=CLOCK]      x axis; by default the clock of the budget
                   [center=mean]      or median, with its band
                   [figures=true]     or false: tables only
                   [out=DIR]          by default <results>/report/<name, or all>
"""

SPACE_USAGE = """\
What a search space looks like, from its definition and from a table that is here.

  nas-arena space NAME [dataset=NAME]     by default the first in the alphabet
                       [schedule=NAME]    by default the one that trains longest
                       [metric=COLUMN]    by default valid_error, if the table has it
                       [table=NAME]       by default the first of the space that is here
                       [out=DIR]          by default results/space/NAME
"""

BUILD_USAGE = """\
Train a whole space, or some of it, under several seeds, into a table.

  nas-arena build space=NAME dataset=NAME
                  [recipe=NAME]           how; by default the recipe named like the space
                  [seeds=3]               trainings of an architecture, under seeds 0, 1, …
                  [architectures=all]     or random:N, random:N:SEED, or a file, one a line
                  [jobs=1]                processes, each with one thread
                  [device=auto]           or cpu, cuda, cuda:1, …
                  [deadline=3600]         seconds after which one training has failed
                  [shard=12]              trainings sealed together, which a kill may cost
                  [name=NAME]             of the table; by default <space>-<dataset>
                  [out=results/build]     folder of what is trained, before it is a table
                  [licence=TEXT] [note=TEXT]   for those who get the table

Keys can be set, such as recipe.epochs=5, recipe.network.width=8 or dataset.load.train=1000.
What is trained is kept: run the same command again after an interruption and it goes on. The
table goes to $NAS_ARENA_DATA, where `nas-arena run objective.table=NAME` finds it, if it is of a
whole space, and `nas-arena space SPACE table=NAME` always. Two builds differ in seconds and
latency, which are measured, and on one kind of machine in nothing else.
"""

PARITY_USAGE = """\
Train some rows of a table again, from all over its range of errors, and compare.

  nas-arena parity space=NAME dataset=NAME
                   [recipe=NAME]          how; by default the recipe named like the space
                   [n=20]                 rows, one from each of n equal parts by error
                   [seeds=1]              trainings of each, under seeds 1000, 1001, …
                   [first_seed=1000]      0 repeats the trainings of a table made by build
                   [table=NAME]           by default the one named like the space
                   [schedule=NAME]        by default that of as many epochs as the recipe
                   [metric=valid_error]   or test_error; by default the first the table has
                   [rows_of=DATASET]      the data set's name in the table, if it is another
                   [seed=0]               of the draw of rows
                   [jobs=1] [device=auto] [deadline=3600]
                   [out=DIR]              by default results/parity/<table>-<dataset>

Tells the rank correlation, the bias, and how many times longer an epoch takes here.
"""

RETRAIN_USAGE = """\
Train what a run found on training and validation data, test it once, keep its weights.

  nas-arena retrain RUN                   a folder in results/runs
                    [seed=N]              of the run; by default its first
  nas-arena retrain architecture=STRING space=NAME dataset=NAME
                    [recipe=NAME]         how; by default the run's, else that named like the space
                    [seeds=3]             trainings, under seeds 0, 1, …
                    [device=auto] [deadline=3600]
                    [out=DIR]             by default results/retrain/<space>-<dataset>-<network>

Keys can be set, such as recipe.epochs=50. Training that was interrupted goes on.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0 done, 1 something failed or is missing, 2 bad input, 3 damage."""
    for text in sys.stdout, sys.stderr:
        if isinstance(text, TextIOWrapper):
            text.reconfigure(errors="replace")  # terminals that lack a character
    words = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": run,
        "report": report,
        "data": data,
        "space": space,
        "build": build,
        "parity": parity,
        "retrain": retrain,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        sys.exit(0)
    if words[0] == "--version":
        from bench import __version__

        print(f"nas-arena {__version__}")
        sys.exit(0)
    if words[0] not in commands:
        sys.exit(_complain([f"unknown command {words[0]!r}; allowed: {', '.join(commands)}"]))
    try:
        status = commands[words[0]](words[1:])
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What is sealed stays; run the same command to go on.", file=sys.stderr
        )
        status = 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _complain(problems: Sequence[str], status: int = 2) -> int:
    """Print at most ten lines; returns the exit status."""
    shown = problems if len(problems) <= 10 else problems[:9]
    for problem in shown:
        line = "".join(c if c.isprintable() else " " for c in problem)
        print(f"nas-arena: {' '.join(line.split())}", file=sys.stderr)
    if len(shown) < len(problems):
        print(f"nas-arena: … and {len(problems) - len(shown)} more", file=sys.stderr)
    return status


def run(words: list[str]) -> int:
    """`nas-arena run`: compose the cells, run what is not sealed, report."""
    gc.disable()  # until the runs start: composing makes no garbage worth looking for
    from bench import compose, parts

    if "-h" in words or "--help" in words:
        print(RUN_USAGE)
        for group in compose.GROUPS:
            print(f"{group}=")
            for name, text in parts.options(group).items():
                print(f"  {name:24s}{text}")
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
        return _complain(error.problems)


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
    from bench.run import execute
    from bench.store import StoreError, write_grid

    settings, cells = plan.settings, plan.cells
    results = Path(settings.results).resolve()
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    gc.freeze()
    gc.enable()
    failures: list[str] = []
    try:
        folders = [cell.folder(results) for cell in cells]
        write_grid(results, settings.name, seeds, folders)
        with _progress(len(cells), len(seeds)) as tick:
            failures = execute(cells, seeds, results, jobs=settings.jobs, progress=tick)
        summary = write_report(
            results,
            results / "report" / settings.name,
            folders=[folder.name for folder in folders],
            expected={folder.name: seeds for folder in folders},
            figures=settings.figures,
        )
    except ReportError as error:
        return _complain(failures or [str(error)], status=1)
    except StoreError as error:
        return _complain([str(error)], status=3)
    except OSError as error:
        return _complain([f"{error.filename or results}: {error.strerror}"])
    _show(summary)
    if not settings.figures:
        print(f"Figures: nas-arena report name={settings.name} results={settings.results}")
    return _complain(failures, status=1) if failures else 0


@contextmanager
def _progress(cells: int, seeds: int) -> Iterator[Callable[[Any, int], None]]:
    """One bar of cells, one of runs; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda cell, done: None
        return
    from tqdm import tqdm

    finished: Counter[int] = Counter()
    with (
        tqdm(total=cells, unit="cell", desc="cells") as of_cells,
        tqdm(total=cells * seeds, unit="run", desc="runs", leave=False) as of_runs,
    ):

        def tick(cell: Any, done: int) -> None:
            finished[id(cell)] += done
            of_runs.update(done)
            if done and finished[id(cell)] == seeds:
                of_cells.update()
                of_cells.set_postfix_str(cell.names["strategy"])

        yield tick


def _bar(items: Iterable[Any], total: int | None = None) -> Iterable[Any]:
    """A progress bar around `items`; nothing where nobody looks."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, total=total)
    return bar


def report(words: list[str]) -> int:
    """`nas-arena report`: draw and rank what is sealed."""
    if "-h" in words or "--help" in words:
        print(REPORT_USAGE)
        return 0
    from bench.report import ReportError, write_report
    from bench.report.frame import expect, read_grids
    from bench.search import CLOCKS
    from bench.store import StoreError

    allowed: dict[str, Sequence[str] | None] = {
        "results": None,
        "name": None,
        "out": None,
        "clock": CLOCKS,
        "center": ("mean", "median"),
        "figures": ("true", "false"),
    }
    given = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in allowed:
            problems.append(f"{word!r} is unknown; allowed: {', '.join(f'{k}=' for k in allowed)}")
        elif (values := allowed[key]) and value not in values:
            problems.append(f"{key} is {value!r}; allowed: {', '.join(values)}")
        else:
            given[key] = value
    if problems:
        return _complain(problems)
    results = Path(given.get("results", "results")).resolve()
    name = given.get("name")
    try:
        grids = read_grids(results)
        chosen = [grid for grid in grids if name in (None, grid.name)]
        if name is not None and not chosen:
            names = sorted({grid.name for grid in grids})
            return _complain([f"name is {name!r}; {results} has {', '.join(names) or 'none'}"])
        expected = expect(chosen)
        summary = write_report(
            results,
            Path(given.get("out", results / "report" / (name or "all"))).resolve(),
            folders=None if name is None else list(expected),
            expected=expected,
            clock=given.get("clock"),
            center="median" if given.get("center") == "median" else "mean",
            figures=given.get("figures", "true") == "true",
        )
    except ReportError as error:
        return _complain([str(error)])
    except StoreError as error:
        return _complain([str(error)], status=3)
    except OSError as error:
        return _complain([f"{error.filename or results}: {error.strerror}"])
    _show(summary)
    return 1 if summary.missing else 0


def _show(summary: Any) -> None:
    print(summary.text)
    print(f"Report: {summary.out / 'leaderboard.md'}")


def data(words: list[str]) -> int:
    """`nas-arena data`: list, import and verify tables."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="nas-arena data",
        description="Benchmark tables. Imported ones lie in $NAS_ARENA_DATA, else $TORCH_HOME, "
        "else ~/.nas-arena.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lister = commands.add_parser("list", help="what is here, and where the rest is published")
    lister.add_argument("name", nargs="?", help="a table, of which all is told")
    getter = commands.add_parser("get", help="download a published file, or say where it is")
    getter.add_argument("name", help="a name that `data list` shows, or cifar10, fashion_mnist, …")
    importer = commands.add_parser("import", help="make a table from a published file")
    importer.add_argument(
        "recipe", help="a name that `data list` shows, or your own yaml (see bench/data.py)"
    )
    importer.add_argument(
        "file", type=Path, nargs="?", help="the published file or folder; by default what `get` got"
    )
    importer.add_argument("--into", metavar="TABLE", help="the table that gets further columns")
    importer.add_argument(
        "--partial", action="store_true", help="it may lack architectures; no search can use it"
    )
    verifier = commands.add_parser("verify", help="check digests and values")
    verifier.add_argument("names", nargs="*", help="tables; by default all that are here")
    commands.add_parser(
        "spaces", help="the search spaces, with their sizes and tables, as Markdown"
    )
    chosen = parser.parse_args(words)
    from bench.fetch import FetchError
    from bench.table import TableError

    try:
        return _data(chosen)
    except FetchError as error:
        return _complain([str(error)], status=1)
    except TableError as error:
        return _complain([str(error)])


def _data(chosen: Any) -> int:
    """A command of `data` with its arguments as parsed; may raise TableError."""
    from bench import catalogue, listing

    if chosen.command == "list":
        print(listing.details(chosen.name) if chosen.name else listing.overview())
    elif chosen.command == "spaces":
        print(catalogue.spaces_table())
    elif chosen.command == "get":
        text, done = catalogue.get(chosen.name, progress=_bar)
        print(text)
        return 0 if done else 1
    elif chosen.command == "import":
        source = chosen.file or catalogue.find_source(chosen.recipe)
        made = catalogue.make(
            chosen.recipe, source, partial=chosen.partial, into=chosen.into, progress=_bar
        )
        print(made)
    else:
        bad = []
        for line, good in catalogue.verify(chosen.names):
            if good:
                print(line)
            else:
                bad.append(line)
        return _complain(bad) if bad else 0
    return 0


def space(words: list[str]) -> int:
    """`nas-arena space`: describe and draw a search space."""
    from bench import parts

    spaces = parts.options("space")
    if "-h" in words or "--help" in words:
        print(SPACE_USAGE)
        print("\n".join(f"  {name:24s}{text}" for name, text in spaces.items()))
        return 0
    allowed = ("dataset", "schedule", "metric", "table", "out")
    given, problems = {}, []
    if not words or words[0] not in spaces:
        named = repr(words[0]) if words else "not named"
        problems.append(f"space is {named}; allowed: {', '.join(spaces)}")
    for word in words[1:]:
        key, _, value = word.partition("=")
        if not value or key not in allowed:
            problems.append(f"{word!r} is unknown; allowed: {', '.join(f'{k}=' for k in allowed)}")
        given[key] = value
    if problems:
        return _complain(problems)
    from bench.catalogue import tables_of
    from bench.report.space import write_view
    from bench.report.space_numbers import read_numbers
    from bench.table import TableError, find_table, open_table

    described = parts.build("space", words[0])
    out = Path(given.pop("out", f"results/space/{words[0]}")).resolve()
    numbers, sentences = None, list[str]()
    try:
        table = given.pop("table", None)
        if table is None:
            table, sentences = tables_of(words[0])
        path = None if table is None else find_table(described, table)
        if path is None and given:
            return _complain([f"{next(iter(given))}= needs a table; {'; '.join(sentences)}"])
        with ExitStack() as stack:
            if path is not None:
                try:
                    file, digest = stack.enter_context(open_table(path))
                except TableError as error:
                    return _complain([str(error)], status=3)
                numbers = read_numbers(file, digest, described, **given)
        view = write_view(described, numbers, out, tables=sentences, progress=_bar)
    except TableError as error:
        return _complain([str(error)])
    except OSError as error:
        return _complain([f"{error.filename or out}: {error.strerror}"])
    print(view.text)
    print(f"\nView: {view.out / 'space.md'}")
    return 0


def _sort_words(words: Sequence[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """A command's own settings, with their defaults, and the words that are none of them."""
    given, others = dict(defaults), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in defaults:
            given[key] = value
        else:
            others.append(word)
    return given, others


def _whole(given: dict[str, str], key: str, least: int, most: int, problems: list[str]) -> int:
    """A setting as a whole number; what is wrong with it is added to `problems`."""
    text = given[key]
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    problems.append(f"{key} is {text!r}; allowed: whole numbers from {least} to {most:,}")
    return least


def _name(given: dict[str, str], key: str, problems: list[str]) -> None:
    if given[key] and not re.fullmatch(r"\w[\w.-]*", given[key], re.ASCII):
        problems.append(f"{key} is {given[key]!r}; allowed: letters, digits, . - and _")


def _training_help(usage: str) -> int:
    from bench import parts

    print(usage)
    for group in "space", "dataset", "recipe":
        print(f"{group}=")
        for name, text in parts.trainable(group).items():
            print(f"  {name:24s}{text}")
    return 0


def _made(words: list[str], problems: list[str], stored: Any = None) -> Any:
    """What is trained, by the other words of a command.

    Raises:
        ConfigError: with all that is wrong, `problems` included.
    """
    from bench import compose

    try:
        made = compose.training(words, stored)
    except compose.ConfigError as error:
        raise compose.ConfigError([*problems, *error.problems]) from None
    if problems:
        raise compose.ConfigError(problems)
    return made


@contextmanager
def _trainings_bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar of trainings with the time left; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield bool
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="training", smoothing=0.05) as bar:

        def tick(done: int) -> None:
            if done > 1:  # of an earlier command: says nothing of how long one takes
                bar.initial = bar.n = done
                bar.refresh()
            else:
                bar.update(done)

        yield tick


def _guarded(command: Callable[[], int]) -> int:
    """Run a command that trains; whatever can go wrong becomes a sentence and a status."""
    from bench.build import BuildError, InputError
    from bench.compose import ConfigError
    from bench.store import StoreError
    from bench.table import TableError

    try:
        return command()
    except ConfigError as error:
        return _complain(error.problems)
    except (TableError, InputError) as error:
        return _complain([str(error)])
    except BuildError as error:
        return _complain([str(error)], status=1)
    except StoreError as error:
        return _complain([str(error)], status=3)
    except OSError as error:
        return _complain([f"{error.filename or 'a file'}: {error.strerror}"])


def build(words: list[str]) -> int:
    """`nas-arena build`: train a space into a table."""
    if "-h" in words or "--help" in words:
        return _training_help(BUILD_USAGE)
    return _guarded(lambda: _build(words))


def _build(words: list[str]) -> int:
    from bench import build, built

    given, others = _sort_words(
        words,
        {
            **{"seeds": "3", "architectures": "all", "jobs": "1", "device": "auto"},
            **{
                "shard": str(build.SHARD),
                "deadline": "3600",
                "name": "",
                "out": "results/build",
                "licence": "",
                "note": "",
            },
        },
    )
    problems: list[str] = []
    seeds = _whole(given, "seeds", 1, 1000, problems)
    jobs = _whole(given, "jobs", 1, 1024, problems)
    deadline = _whole(given, "deadline", 1, 10**7, problems)
    shard = _whole(given, "shard", 1, 10**4, problems)
    _name(given, "name", problems)
    made = _made(others, problems)
    archs = build.choose(made.space, given["architectures"])
    plan = build.make_plan(
        made, archs, seeds, device=given["device"], deadline=deadline, shard=shard
    )
    with _trainings_bar(plan.trainings) as tick:
        folder = build.train_all(plan, Path(given["out"]).resolve(), jobs=jobs, progress=tick)
    found = built.collect(plan, folder)
    command = " ".join(["nas-arena build", *others, f"architectures={given['architectures']}"])
    texts = {
        "source": f"trained here: {command} seeds={seeds}",
        "licence": given["licence"],
        "citation": "",
        "notes": f"{built.notes(plan, found, given['architectures'])} {given['note']}".strip(),
    }
    name = given["name"] or f"{made.names['space']}-{made.names['dataset']}"
    path = built.put(built.to_table(plan, found, texts), plan.space, name)
    print(f"{path}: {len(archs):,} architectures of {plan.space.name}, {seeds} training seeds")
    print(f"Look at it: nas-arena space {made.names['space']} table={name}")
    if len(archs) < plan.space.networks:
        print("It is a sample: a search needs every architecture, or objective=surrogate")
    lines = [
        f"{one.architecture}, seed {one.seed}: {one.status} {one.message}".rstrip()
        + f" (remove {one.path.name} and build again to repeat it)"
        for one in found.failures
    ]
    return _complain([f"{len(lines)} trainings failed", *lines], status=1) if lines else 0


def parity(words: list[str]) -> int:
    """`nas-arena parity`: train rows of a table again and compare."""
    if "-h" in words or "--help" in words:
        return _training_help(PARITY_USAGE)
    return _guarded(lambda: _parity(words))


def _parity(words: list[str]) -> int:
    from bench import build, built, parity

    given, others = _sort_words(
        words,
        {
            **{"n": "20", "seeds": "1", "table": "", "schedule": "", "metric": "", "rows_of": ""},
            **{
                "first_seed": "1000",
                "seed": "0",
                "jobs": "1",
                "device": "auto",
                "deadline": "3600",
                "out": "",
            },
        },
    )
    problems: list[str] = []
    count = _whole(given, "n", 3, 10**5, problems)
    seeds = _whole(given, "seeds", 1, 1000, problems)
    first_seed = _whole(given, "first_seed", 0, 10**6, problems)
    seed = _whole(given, "seed", 0, 10**9, problems)
    jobs = _whole(given, "jobs", 1, 1024, problems)
    deadline = _whole(given, "deadline", 1, 10**7, problems)
    made = _made(others, problems)
    table, rows_of = given["table"] or made.space.name, given["rows_of"] or made.dataset
    schedule = given["schedule"] or str(made.recipe.epochs)
    metric = given["metric"] or None
    reference = parity.sample(made.space, table, rows_of, schedule, count, metric=metric, seed=seed)
    plan = build.make_plan(
        made,
        reference.architectures,
        seeds,
        device=given["device"],
        deadline=deadline,
        costs=False,
        first_seed=first_seed,
    )
    out = Path(given["out"] or f"results/parity/{table}-{rows_of}").resolve()
    with _trainings_bar(plan.trainings) as tick:
        folder = build.train_all(plan, out, jobs=jobs, progress=tick)
    found = parity.compare(plan, built.collect(plan, folder), reference)
    files = parity.write_parity(found, out)
    print("\n".join([parity.title(found), *(f"  {text}" for text in parity.sentences(found))]))
    print(f"Probe: {files[0]}")
    return 1 if found.failed else 0


def retrain(words: list[str]) -> int:
    """`nas-arena retrain`: the last training of an architecture."""
    if "-h" in words or "--help" in words:
        return _training_help(RETRAIN_USAGE)
    return _guarded(lambda: _retrain(words))


def _retrain(words: list[str]) -> int:
    from bench.compose import ConfigError

    given, others = _sort_words(
        words,
        {
            **{"architecture": "", "seed": "", "seeds": "3", "device": "auto"},
            **{"deadline": "3600", "out": ""},
        },
    )
    problems: list[str] = []
    runs = [word for word in others if "=" not in word or Path(word).is_dir()]
    if len(runs) != (0 if given["architecture"] else 1) or (given["seed"] and not runs):
        raise ConfigError(
            ["name one folder of results/runs, or an architecture=; seed= is that of a run"]
        )
    others = [word for word in others if word not in runs]
    seeds = _whole(given, "seeds", 1, 1000, problems)
    deadline = _whole(given, "deadline", 1, 10**7, problems)
    seed = _whole(given, "seed", 0, 10**12, problems) if given["seed"] else None
    from bench.training import final
    from bench.training.trainer import Trainer

    origin: dict[str, Any] = {}
    stored, text, found = None, given["architecture"], None
    try:
        if runs:
            found = final.incumbent(Path(runs[0]).resolve(), seed)
            stored = final.stored_parts(found.cell)
            origin = {"run": Path(runs[0]).resolve().name, "seed": found.seed}
        made = _made(others, problems, stored)
        arch = found.architecture if found else made.space.from_string(text)
        if not made.space.contains(arch):
            raise ValueError(f"{arch} of the run is not in {made.space.name} as it is now")
    except (ValueError, final.FinalError) as error:
        raise ConfigError([str(error)]) from None
    text = made.space.to_string(arch)
    short = re.sub(r"[^\w.-]+", "_", text).strip("_")[:60]
    default = f"results/retrain/{made.names['space']}-{made.names['dataset']}-{short}"
    out = Path(given["out"] or default).resolve()
    trainer = Trainer(made.space, made.load, made.recipe, given["device"])
    try:
        with _trainings_bar(seeds) as tick:
            done = final.retrain(trainer, arch, range(seeds), out, deadline=deadline, progress=tick)
    except final.FinalError as error:
        return _complain([str(error)], status=1)
    files = final.write_final(done, out, origin)
    print("\n".join([text, *(f"  {line}" for line in final.sentences(done))]))
    print(f"Weights: {', '.join(one.weights.name for one in done.runs)} in {out}")
    print(f"Summary: {files[-1]}")
    return 0


if __name__ == "__main__":
    main()
