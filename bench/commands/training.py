"""`nas-arena build | parity | retrain`."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.commands.console import complain
from bench.words import many

BUILD_USAGE = """\
Train a whole space, or some of it, under several seeds, into a table.

  nas-arena build space=NAME dataset=NAME
                  [recipe=NAME]           how; by default the recipe named like the space
                  [seeds=3]               trainings of an architecture, under seeds 0, 1, …
                  [architectures=all]     or random:N, random:N:SEED, or a file, one a line
                  [jobs=N]                processes, each with one thread; by default one a core
                                          on a CPU, and one on a GPU
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
                   [jobs=N] [device=auto] [deadline=3600]
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
            **{"seeds": "3", "architectures": "all", "jobs": "", "device": "auto"},
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
    deadline = _whole(given, "deadline", 1, 10**7, problems)
    jobs = _jobs(given, _device(given, problems), problems)
    shard = _whole(given, "shard", 1, 10**4, problems)
    _name(given, "name", problems)
    problems += [
        f"{key}= is not given; a build takes hours, so it names what to train"
        for key in ("space", "dataset")
        if not any(word.startswith(f"{key}=") for word in others)
    ]
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
    counts = f"{many(len(archs), 'architecture')} of {plan.space.name}"
    print(f"{path}: {counts}, {many(seeds, 'training seed')}")
    print(f"Look at it: nas-arena space {made.names['space']} table={name}")
    if len(archs) < plan.space.networks:
        print("It is a sample: a search needs every architecture, or objective=surrogate")
    listed = folder / "failures.txt"
    listed.unlink(missing_ok=True)
    if not found.failures:
        return 0
    lines = [
        f"{one.architecture}, seed {one.seed}: {one.status} {one.message}".rstrip()
        + f" (remove {one.path.name} and build again to repeat it)"
        for one in found.failures
    ]
    listed.write_text("\n".join([*lines, ""]), encoding="utf-8")
    failed = f"{many(len(lines), 'training')} failed; {listed} lists all"
    return complain([failed, *lines], status=1)


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
                "jobs": "",
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
    deadline = _whole(given, "deadline", 1, 10**7, problems)
    jobs = _jobs(given, _device(given, problems), problems)
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
    _device(given, problems)
    seed = _whole(given, "seed", 0, 10**12, problems) if given["seed"] else None
    from bench.training import final
    from bench.training.trainer import Trainer, choose_device, on

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
    recipe = on(made.recipe, choose_device(given["device"]))
    trainer = Trainer(made.space, made.load, recipe, given["device"])
    try:
        with _trainings_bar(seeds) as tick:
            done = final.retrain(trainer, arch, range(seeds), out, deadline=deadline, progress=tick)
    except final.FinalError as error:
        return complain([str(error)], status=1)
    files = final.write_final(done, out, origin)
    print("\n".join([text, *(f"  {line}" for line in final.sentences(done))]))
    print(f"Weights: {', '.join(one.weights.name for one in done.runs)} in {out}")
    print(f"Summary: {files[-1]}")
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


def _jobs(given: dict[str, str], device: str, problems: list[str]) -> int:
    """How many processes; where nobody says, one a core on a CPU and one on a GPU."""
    from bench.run import cores

    if given["jobs"]:
        return _whole(given, "jobs", 1, 1024, problems)
    return cores() if device == "cpu" else 1


def _whole(given: dict[str, str], key: str, least: int, most: int, problems: list[str]) -> int:
    """A setting as a whole number; what is wrong with it is added to `problems`."""
    text = given[key]
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    problems.append(f"{key} is {text!r}; allowed: whole numbers from {least} to {most:,}")
    return least


def _device(given: dict[str, str], problems: list[str]) -> str:
    """The type of the device, looked for before anything is prepared for it.

    Raises:
        ConfigError: there is no PyTorch to ask.
    """
    from bench.compose import ConfigError

    try:
        from bench.training.trainer import choose_device
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        lacking = "training needs PyTorch: pip install 'nas-arena[train]'"
        raise ConfigError([*problems, lacking]) from None
    try:
        return choose_device(given["device"]).type
    except ValueError as error:
        problems.append(str(error))
        return ""


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


LOGGED = "{n} of {total} trainings, {remaining} left\n"


@contextmanager
def _trainings_bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar of trainings with the time left; in a log a line a minute."""
    from tqdm import tqdm

    style: dict[str, Any] = {}
    if not sys.stderr.isatty():
        style = {"bar_format": LOGGED, "mininterval": 60.0, "maxinterval": 60.0}
    with tqdm(total=total, unit="training", smoothing=0.05, **style) as bar:

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
        return complain(error.problems)
    except (TableError, InputError) as error:
        return complain([str(error)])
    except BuildError as error:
        return complain([str(error)], status=1)
    except StoreError as error:
        return complain([str(error)], status=3)
    except OSError as error:
        return complain([f"{error.filename or 'a file'}: {error.strerror}"])
