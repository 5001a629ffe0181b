"""The command line: `nas-arena run | report | data | space | build | parity | retrain`."""

import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from bench.commands import data, report, run, space, training
from bench.commands.console import complain
from bench.words import nearest

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


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0 done, 1 something failed or is missing, 2 bad input, 3 damage."""
    for text in sys.stdout, sys.stderr:
        if isinstance(text, TextIOWrapper):
            text.reconfigure(errors="replace")  # terminals that lack a character
    words = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": run.run,
        "report": report.report,
        "data": data.data,
        "space": space.space,
        "build": training.build,
        "parity": training.parity,
        "retrain": training.retrain,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        sys.exit(0)
    if words[0] == "--version":
        from bench import __version__

        print(f"nas-arena {__version__}")
        sys.exit(0)
    if words[0] not in commands:
        unknown = f"unknown command {words[0]!r}; allowed: {', '.join(commands)}"
        sys.exit(complain([unknown + nearest(words[0], commands)]))
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


if __name__ == "__main__":
    main()
