"""`nas-arena data`."""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from bench.commands.console import bar_of, complain


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        sys.exit(complain([f"{message}; see {self.prog} --help"]))


def data(words: list[str]) -> int:
    """`nas-arena data`: list, import and verify tables."""
    parser = Parser(
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
        return complain([str(error)], status=1)
    except TableError as error:
        return complain([str(error)])


def _data(chosen: Any) -> int:
    """A command of `data` with its arguments as parsed; may raise TableError."""
    from bench import catalogue, listing

    if chosen.command == "list":
        print(listing.details(chosen.name) if chosen.name else listing.overview())
    elif chosen.command == "spaces":
        print(catalogue.spaces_table())
    elif chosen.command == "get":
        text, done = catalogue.get(chosen.name, progress=bar_of)
        print(text)
        return 0 if done else 1
    elif chosen.command == "import":
        source = chosen.file or catalogue.find_source(chosen.recipe)
        made = catalogue.make(
            chosen.recipe, source, partial=chosen.partial, into=chosen.into, progress=bar_of
        )
        print(made)
    else:
        bad = []
        for line, good in catalogue.verify(chosen.names):
            if good:
                print(line)
            else:
                bad.append(line)
        return complain(bad) if bad else 0
    return 0
