"""What a pickle may refer to again, in little memory however long the pickle is."""

import zlib
from array import array
from bisect import bisect_right
from typing import Any

from bench.table import TableError

LEFT_OUT = 100_000  # places that a pickler may skip; that of Python 2 begins at 1
PAGES = 64  # of the memo, kept open


class PickleError(TableError):
    """The bytes are no pickle."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"damaged pickle: {reason}")


class Memo:
    """What a pickle may refer to again: everything of this item, the strings of earlier ones."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._start = 0  # how many came before them
        self._left_out = 0
        self._starts: list[int] = []
        self._pages: list[bytes] = []
        self._open: dict[int, array[int]] = {}
        self._numbers: dict[Any, int] = {}
        self._shared: list[Any] = [None]

    def put(self, index: int, value: Any) -> None:
        gap = index - self.next_index()
        self._left_out += max(gap, 0)
        if gap < -len(self.values) or self._left_out > LEFT_OUT:
            raise PickleError(f"memo index {index} is out of order")
        if gap < 0:
            self.values[gap] = value
        else:
            self.values += [None] * gap + [value]

    def get(self, index: int) -> Any:
        if index >= self._start or index < 0:
            if not 0 <= index - self._start < len(self.values):
                raise PickleError(f"memo index {index} is not there")
            return self.values[index - self._start]
        page = bisect_right(self._starts, index) - 1
        number = self._page(page)[index - self._starts[page]]
        if not number:
            raise TableError("refused: the pickle refers back to a part of an earlier item")
        return self._shared[number]

    def _page(self, page: int) -> "array[int]":
        if page not in self._open:
            if len(self._open) >= PAGES:
                self._open.clear()
            self._open[page] = array("I", zlib.decompress(self._pages[page]))
        return self._open[page]

    def next_index(self) -> int:
        """The place of the next value."""
        return self._start + len(self.values)

    def forget(self) -> None:
        """Let go of containers and numbers; strings stay, four bytes each before compression."""
        known = self._numbers
        numbers = array(
            "I",
            [
                known[value] if type(value) is str and value in known else self._number(value)
                for value in self.values
            ],
        )
        self._starts.append(self._start)
        self._pages.append(zlib.compress(numbers.tobytes(), 1))
        self._start += len(self.values)
        self.values.clear()

    def _number(self, value: Any) -> int:
        if type(value) is not str and not hasattr(value, "stays_in_memo") and not callable(value):
            return 0
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._shared)
            self._shared.append(value)
        return number
