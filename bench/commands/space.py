"""`nas-arena space`."""

from contextlib import ExitStack
from pathlib import Path

from bench.commands.console import bar_of, complain
from bench.words import nearest

SPACE_USAGE = """\
What a search space looks like, from its definition and from a table that is here.

  nas-arena space NAME [dataset=NAME]     by default the first in the alphabet
                       [schedule=NAME]    by default the one that trains longest
                       [metric=COLUMN]    by default valid_error, if the table has it
                       [table=NAME]       by default the first of the space that is here
                       [out=DIR]          by default results/space/NAME
"""


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
        near = nearest(words[0], spaces) if words else ""
        problems.append(f"space is {named}; allowed: {', '.join(spaces)}{near}")
    for word in words[1:]:
        key, _, value = word.partition("=")
        if not value or key not in allowed:
            problems.append(f"{word!r} is unknown; allowed: {', '.join(f'{k}=' for k in allowed)}")
        given[key] = value
    if problems:
        return complain(problems)
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
            return complain([f"{next(iter(given))}= needs a table; {'; '.join(sentences)}"])
        with ExitStack() as stack:
            if path is not None:
                try:
                    file, digest = stack.enter_context(open_table(path))
                except TableError as error:
                    return complain([str(error)], status=3)
                numbers = read_numbers(file, digest, described, **given)
        view = write_view(described, numbers, out, tables=sentences, progress=bar_of)
    except TableError as error:
        return complain([str(error)])
    except OSError as error:
        return complain([f"{error.filename or out}: {error.strerror}"])
    print(view.text)
    print(f"\nView: {view.out / 'space.md'}")
    return 0
