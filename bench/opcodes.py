"""The machine that reads pickles: opcodes of data, an allow-list of names, and no declared size.

Opcodes are those of `pickletools` in the standard library, protocols 0 to 4, but for the classes
of Python 2. Dicts from epochs to numbers, to which most bytes of a published file belong, are found
by regular expressions and read at once.
"""

import codecs
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from bench.memo import Memo, PickleError
from bench.table import TableError

Allowed = Mapping[tuple[str, str], Any]  # (module, name) -> what stands for it

MEGABYTE = 1 << 20
LONGEST = 64 * MEGABYTE  # bytes of one string or number
LARGEST = 256 * MEGABYTE  # bytes of one pickle
LONGEST_RUN = 30_000_000  # opcodes of one pickle or item; one makes 64 bytes of objects, or fewer
AHEAD = MEGABYTE // 8  # bytes in the buffer before an opcode, where the file has them
DEEPEST = 1000  # marks at a time
DOUBLE = struct.Struct(">d")

NAME = rb"[a-zA-Z_][\w-]*@\d+"  # what curves are keyed by, such as x-valid@199
AGAIN = re.compile(rb"(?:(?:h.|j.{4})G.{8})++u", re.DOTALL)
CURVES = {  # by the first byte: key, float, key, float, …, SETITEMS
    ord("K"): re.compile(rb"(?:K.G.{8})++u", re.DOTALL),
    0x8C: re.compile(rb"(?:\x8c." + NAME + rb"\x94G.{8})++u", re.DOTALL),
    ord("X"): re.compile(rb"(?:X.\0\0\0" + NAME + rb"(?:q.|r.{4})G.{8})++u", re.DOTALL),
    ord("h"): AGAIN,
    ord("j"): AGAIN,
}
PAIRS = {
    0x8C: re.compile(rb"\x8c(.)(" + NAME + rb")\x94G(.{8})", re.DOTALL),
    ord("X"): re.compile(rb"X(.)\0\0\0(" + NAME + rb")(?:q(.)|r(.{4}))G(.{8})", re.DOTALL),
    ord("h"): (KEY_AGAIN := re.compile(rb"(?:h(.)|j(.{4}))G(.{8})", re.DOTALL)),
    ord("j"): KEY_AGAIN,
}


class Texts(dict[bytes, str]):
    """The names of curves, decoded once each."""

    def __missing__(self, name: bytes) -> str:
        text = name.decode()
        if len(self) < MEGABYTE // 8:
            self[name] = text
        return text


class Machine:
    """Executes the opcodes of a file, one pickle after the other."""

    def __init__(
        self, file: IO[bytes], allowed: Allowed | None = None, *, largest: int = LARGEST
    ) -> None:
        """`largest`: how many bytes one pickle may have, or one item where they are handed over."""
        self._file, self._allowed, self._largest = file, allowed or {}, largest
        self._data, self._at, self._safe, self._spent = b"", 0, -1, 0
        self._texts = Texts()
        self.value: Any = None

    def load(self) -> Any:
        """The value of the next pickle.

        Raises:
            TableError: it is damaged, too large, or asks for what is not allowed.
        """
        for _ in self.items(None):
            pass
        return self.value

    def items(self, key: Any) -> Iterator[tuple[Any, Any]]:
        """The items of the dict `top[key]` of the next pickle, each as soon as it is complete.

        They are not kept: afterwards `value` holds the pickle without them. An item may share
        strings with earlier ones, but nothing else. `key` names no other dict of the pickle.

        Raises:
            TableError: as `load`.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo = Memo()
        self._key = key
        self._watched: list[Any] | None = None
        self._ready: list[tuple[Any, Any]] = []
        self._spent = len(self._data) - self._at
        try:
            yield from self._execute()
        except TableError:
            raise
        except Exception as error:  # damaged bytes may do nearly anything
            raise PickleError(
                (" ".join(str(error).split()) or type(error).__name__)[:200]
            ) from None

    def unread(self) -> int:
        """How many bytes behind the last pickle have been taken from the file."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Raise TableError if anything follows the last pickle."""
        if self.unread() or self._file.read(1):
            raise PickleError("more bytes follow its end")

    def _execute(self) -> Iterator[tuple[Any, Any]]:
        executed = 0
        while True:
            if self._at > self._safe:
                self._fill(AHEAD)
            if self._at >= len(self._data):
                raise PickleError("it ends early")
            code = self._data[self._at]
            self._at += 1
            if code == STOP:
                break
            operation = OPERATIONS.get(code)
            if operation is None:
                raise PickleError(f"opcode {code:#04x} is unknown or not allowed")
            operation(self)
            executed += 1
            if executed > LONGEST_RUN:
                raise TableError(f"refused: a pickle of more than {LONGEST_RUN:,} opcodes")
            if self._ready:
                executed = 0
                self._spent = len(self._data) - self._at
                yield from self._ready
                self._ready.clear()
        self.value = self._stack.pop()
        if self._stack or self._below:
            raise PickleError("values are left over")

    def _fill(self, needed: int) -> None:
        """Have `needed` bytes ahead, or all that the file holds."""
        parts, have = [self._data[self._at :]], len(self._data) - self._at
        ended = False
        while have < needed and not ended:
            part = self._file.read(MEGABYTE)
            ended = not part
            parts.append(part)
            have += len(part)
            self._spent += len(part)
        self._data, self._at = b"".join(parts), 0
        self._safe = have if ended else have - AHEAD
        if self._spent > self._largest + 2 * MEGABYTE:
            what = "a pickle" if self._key is None else "an item"
            raise TableError(f"refused: {what} of more than {self._largest / 1e6:,.0f} MB")

    def _take(self, size: int) -> bytes:
        """The next bytes."""
        if size < 0 or size > LONGEST:
            raise TableError(f"refused: the pickle declares a value of {size:,} bytes")
        if self._at + size > len(self._data):
            self._fill(size)
        taken = self._data[self._at : self._at + size]
        self._at += size
        if len(taken) < size:
            raise PickleError("it ends early")
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + AHEAD)
        if end < 0:
            raise PickleError("a line has no end")
        return self._take(end + 1 - self._at)[:-1].decode("latin1")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _unmark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self) -> None:
        stack = self._stack
        if stack is self._watched:
            while len(stack) >= 4:
                self._hand_over(stack.pop(0), stack.pop(0))
        first = self._data[self._at] if self._at < len(self._data) else -1
        if first in CURVES and stack and type(stack[-1]) is dict:
            found = CURVES[first].match(self._data, self._at)
            if found and self._curve(first, found.group()[:-1]):
                self._at = found.end()
                return
        if len(self._below) >= DEEPEST:
            raise PickleError("it is nested too deep")
        self._below.append(stack)
        self._stack = []
        if self._is_watched(stack, len(self._below) - 1):
            self._watched = self._stack

    def _is_watched(self, stack: list[Any], depth: int) -> bool:
        """Whether the top of a stack with `depth` marks under it is the dict to be handed over.

        The top of the pickle lies at the bottom of all stacks: under a mark if it has several
        items, else directly under its only key.
        """
        if self._key is None or len(stack) < 2 or type(stack[-1]) is not dict:
            return False
        first = self._below[0] if depth else stack
        inside = len(first) == 1 if depth == 1 else depth == 0 and len(stack) == 3
        return inside and type(first[0]) is dict and bool(stack[-2] == self._key)

    def _hand_over(self, key: Any, value: Any) -> None:
        self._ready.append((key, value))
        self._memo.forget()

    def _curve(self, first: int, body: bytes) -> bool:
        """Put keys and floats into the dict on the stack; False leaves them to the opcodes."""
        keys: Any
        if first == ord("K"):
            keys = body[1::11]
            values = struct.unpack(">" + "xxxd" * len(keys), body)
            self._stack[-1].update(zip(keys, values, strict=True))
            return True
        pairs = PAIRS[first].findall(body)
        if first in (0x8C, ord("X")):
            if bytes(len(pair[1]) for pair in pairs) != b"".join([pair[0] for pair in pairs]):
                return False
            if first == ord("X"):
                numbers = [int.from_bytes(pair[2] or pair[3], "little") for pair in pairs]
                start = self._memo.next_index()
                if numbers != list(range(start, start + len(pairs))):
                    return False
            keys = [self._texts[pair[1]] for pair in pairs]
            self._memo.values += keys
        else:
            get = self._memo.get
            keys = [get(int.from_bytes(short or long, "little")) for short, long, _ in pairs]
            _check_keys(keys)
        values = struct.unpack(f">{len(pairs)}d", b"".join([pair[-1] for pair in pairs]))
        self._stack[-1].update(zip(keys, values, strict=True))
        return True

    def _items(self) -> None:
        if self._stack is self._watched:
            items = self._unmark()
            for at in range(0, len(items), 2):
                self._hand_over(items[at], items[at + 1])
            self._watched = None
            return
        items = self._unmark()
        target = self._stack[-1]
        if type(target) is not dict:
            raise PickleError("items are set where no dict is")
        _check_keys(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def _item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        if self._is_watched(self._stack, len(self._below)):
            self._hand_over(key, value)
        elif type(self._stack[-1]) is dict:
            _check_keys([key])
            self._stack[-1][key] = value
        else:
            raise PickleError("an item is set where no dict is")

    def _append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise PickleError("values are appended where no list is")
        self._stack[-1].extend(values)

    def _add(self) -> None:
        values = self._unmark()
        if type(self._stack[-1]) is not set:
            raise PickleError("values are added where no set is")
        _check_keys(values)
        self._stack[-1].update(values)

    def _tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise PickleError("values are missing")
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _dict(self) -> None:
        items = self._unmark()
        _check_keys(items[::2])
        self._push(dict(zip(items[::2], items[1::2], strict=True)))

    def _frozenset(self) -> None:
        values = self._unmark()
        _check_keys(values)
        self._push(frozenset(values))

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("a name is no text")
        if (module, name) not in self._allowed:
            asked = " ".join(f"{module}.{name}".split())[:100]
            raise TableError(f"refused: the file asks for {asked}, which could run code")
        self._push(self._allowed[module, name])

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not callable(function) or type(arguments) is not tuple:
            raise PickleError("a call of what is no function")
        self._push(function(*arguments))

    def _new(self) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        if not isinstance(kind, type) or type(arguments) is not tuple:
            raise PickleError("an instance of what is no class")
        self._push(kind.__new__(kind, *arguments))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is dict:
            return  # attributes of a dict are of no use to us
        if callable(target) or not hasattr(target, "__setstate__"):
            raise PickleError("a state is set where none is kept")
        target.__setstate__(state)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _float(self) -> None:
        self._stack.append(DOUBLE.unpack_from(self._data, self._at)[0])
        self._at += 8

    def _short_text(self) -> None:
        start = self._at + 1
        self._at = start + self._data[start - 1]
        if self._at > len(self._data):
            raise PickleError("it ends early")
        self._stack.append(self._data[start : self._at].decode("utf-8", "surrogatepass"))

    def _put(self, index: int) -> None:
        self._memo.put(index, self._stack[-1])


def _check_keys(keys: list[Any], depth: int = 0) -> None:
    """Raise PickleError where the hash of a tuple could take for ever, or the whole stack."""
    for key in keys:
        if type(key) is tuple or type(key) is frozenset:
            if depth > 2 or len(key) > 100:
                raise PickleError("a key is nested too deep")
            _check_keys(list(key), depth + 1)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(line: str) -> str:
    return codecs.escape_decode(line[1:-1].encode("latin1"))[0].decode("ascii")


def _whole(line: str) -> int | bool:
    return line == "01" if line in ("00", "01") else int(line)


STOP = ord(".")
OPERATIONS: dict[int, Callable[[Machine], Any]] = {
    **{
        code[0]: operation
        for code, operation in {
            b"(": Machine._mark,
            b"\x80": lambda m: m._take(1),  # PROTO
            b"\x95": lambda m: m._take(8),  # FRAME
            b"0": lambda m: m._stack.pop() if m._stack else m._unmark(),
            b"1": Machine._unmark,
            b"2": lambda m: m._push(m._stack[-1]),
            b"N": lambda m: m._push(None),
            b"\x88": lambda m: m._push(True),
            b"\x89": lambda m: m._push(False),
            b"I": lambda m: m._push(_whole(m._line())),
            b"J": lambda m: m._push(m._number("<i")),
            b"K": lambda m: m._push(m._byte()),
            b"M": lambda m: m._push(m._number("<H")),
            b"L": lambda m: m._push(int(m._line().rstrip("L"))),
            b"\x8a": lambda m: m._push(_signed(m._take(m._byte()))),
            b"\x8b": lambda m: m._push(_signed(m._take(m._number("<i")))),
            b"F": lambda m: m._push(float(m._line())),
            b"G": Machine._float,
            b"S": lambda m: m._push(_text(m._line())),
            b"T": lambda m: m._push(m._take(m._number("<i")).decode("ascii")),
            b"U": lambda m: m._push(m._take(m._byte()).decode("ascii")),
            b"B": lambda m: m._push(m._take(m._number("<I"))),
            b"C": lambda m: m._push(m._take(m._byte())),
            b"\x8e": lambda m: m._push(m._take(m._number("<Q"))),
            b"V": lambda m: m._push(m._line().encode("latin1").decode("raw-unicode-escape")),
            b"X": lambda m: m._push(m._take(m._number("<I")).decode("utf-8", "surrogatepass")),
            b"\x8c": Machine._short_text,
            b"\x8d": lambda m: m._push(m._take(m._number("<Q")).decode("utf-8", "surrogatepass")),
            b"]": lambda m: m._push([]),
            b"}": lambda m: m._push({}),
            b")": lambda m: m._push(()),
            b"\x8f": lambda m: m._push(set()),
            b"l": lambda m: m._push(m._unmark()),
            b"d": Machine._dict,
            b"t": lambda m: m._push(tuple(m._unmark())),
            b"\x91": Machine._frozenset,
            b"\x85": lambda m: m._tuple(1),
            b"\x86": lambda m: m._tuple(2),
            b"\x87": lambda m: m._tuple(3),
            b"a": lambda m: m._append([m._stack.pop()]),
            b"e": lambda m: m._append(m._unmark()),
            b"\x90": Machine._add,
            b"s": Machine._item,
            b"u": Machine._items,
            b"p": lambda m: m._put(int(m._line())),
            b"q": lambda m: m._put(m._byte()),
            b"r": lambda m: m._put(m._number("<I")),
            b"\x94": lambda m: m._memo.values.append(m._stack[-1]),
            b"g": lambda m: m._push(m._memo.get(int(m._line()))),
            b"h": lambda m: m._push(m._memo.get(m._byte())),
            b"j": lambda m: m._push(m._memo.get(m._number("<I"))),
            b"c": lambda m: m._global(m._line(), m._line()),
            b"\x93": lambda m: m._global(*(m._stack.pop(), m._stack.pop())[::-1]),
            b"R": Machine._reduce,
            b"\x81": Machine._new,
            b"b": Machine._build,
            b"P": lambda m: m._push(m._line() and None),  # what lies outside is not read
            b"Q": lambda m: m._push(m._stack.pop() and None),
        }.items()
    }
}
