"""Pickles that would run something: each leaves a file behind, if it is ever unpickled."""

import struct

MARKER = "it_ran"
COMMAND = f"touch {MARKER}"
CODE = f"__import__('pathlib').Path({MARKER!r}).touch()"


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def called(name, *arguments):
    """The opcodes of `module.name(*arguments)`."""
    return b"c%s(%stR" % (named(name), b"".join(arguments))


def named(name):
    module, _, attribute = name.partition(":")
    return f"{module}\n{attribute}\n".encode()


def stacked(module, name, *arguments):
    """The same by the opcode of protocol 4, which takes names with dots."""
    return text(module) + text(name) + b"\x93(" + b"".join(arguments) + b"tR"


def listed(*items):
    return b"](" + b"".join(items) + b"e"


SYSTEM, RUN = text(COMMAND), text(CODE)
OS = called("builtins:__import__", text("os"))
THE_SYSTEM = b"cos\nsystem\n"
REAL = {  # those that leave the file behind in any Python that has what they name
    "os.system": called("os:system", SYSTEM),
    "posix.system": called("posix:system", SYSTEM),
    "os.popen": called("os:popen", SYSTEM),
    "subprocess.Popen": called("subprocess:Popen", listed(text("touch"), text(MARKER))),
    "subprocess.check_output": called("subprocess:getoutput", SYSTEM),
    "eval": called("builtins:eval", RUN),
    "exec": called("builtins:exec", RUN),
    "eval of Python 2": called("__builtin__:eval", RUN),
    "open": called("builtins:open", text(MARKER), text("w")),
    "io.open": called("io:open", text(MARKER), text("w")),
    "getattr": called("builtins:getattr", OS, text("system")) + b"(" + SYSTEM + b"tR",
    "a dotted name": stacked("os", "path.os.system", SYSTEM),
    "functools.partial": called("functools:partial", THE_SYSTEM, SYSTEM) + b")R",
    "functools.reduce": called("functools:reduce", b"cbuiltins\neval\n", listed(RUN, b"N")),
    "map": called("builtins:list", called("builtins:map", THE_SYSTEM, listed(SYSTEM))),
    "operator.methodcaller": called("operator:methodcaller", text("system"), SYSTEM)
    + b"("
    + OS
    + b"tR",
    "timeit": called("timeit:timeit", RUN, text("pass"), b"c_thread\nallocate_lock\n", b"K\x01"),
    "code": called("builtins:getattr", called("code:InteractiveInterpreter"), text("runcode"))
    + b"("
    + called("builtins:compile", RUN, text("x"), text("exec"))
    + b"tR",
    "INST": b"(" + SYSTEM + b"ios\nsystem\n",
    "OBJ": b"(cos\nsystem\n" + SYSTEM + b"o",
    "a method": called("builtins:getattr", called("pathlib:PosixPath", text(MARKER)), text("touch"))
    + b")R",
    "__setstate__": b"ccollections\nOrderedDict\n)R}"
    + text("x")
    + called("os:system", SYSTEM)
    + b"sb",
    "in the memo": called("os:system", SYSTEM) + b"q\x000h\x00",
    "a key": b"}" + called("os:system", SYSTEM) + b"Ns",
}
OTHERS = {  # those that need a library, a registry or a careless reader
    "torch.hub": called("torch.hub:load", text("a/b"), text("c")),
    "torch.load": called("torch:load", text("/dev/zero")),
    "a tensor": called("torch._utils:_rebuild_tensor_v2", THE_SYSTEM, SYSTEM),
    "torch's old rebuild": called("torch._utils:_rebuild_tensor", called("os:system", SYSTEM)),
    "joblib": called("joblib.numpy_pickle:load", text("x")),
    "numpy.load": called("numpy:load", text("/dev/zero")),
    "numpy runs a string": called("numpy.testing._private.utils:runstring", RUN, b"}"),
    "an object array": called(
        *("numpy.core.multiarray:_reconstruct", b"cnumpy\nndarray\n", b"(K\x00t", b"C\x01b")
    )
    + b"(K\x01(K\x01t"
    + called("numpy:dtype", text("O8"))
    + b"\x89"
    + listed(called("os:system", SYSTEM))
    + b"tb",
    "an object scalar": called(
        "numpy.core.multiarray:scalar",
        called("numpy:dtype", text("O8")),
        called("os:system", SYSTEM),
    ),
    "an attribute of what is allowed": stacked("collections", "abc.sys.modules.get", text("os")),
    "codecs": called("_codecs:encode", called("os:system", SYSTEM), text("latin1")),
    "another codec": called("_codecs:encode", text("x"), text("bz2_codec"))
    + called("codecs:open", text(MARKER), text("w")),
    "copyreg": called("copyreg:add_extension", text("os"), text("system"), b"K\x01")
    + b"0\x82\x01("
    + SYSTEM
    + b"tR",
    "EXT1": b"\x82\x01(" + SYSTEM + b"tR",
    "EXT4": b"\x84\x01\0\0\0(" + SYSTEM + b"tR",
    "a persistent id": b"Pos.system\n(" + SYSTEM + b"tR",
    "a persistent id from the stack": THE_SYSTEM + b"Q(" + SYSTEM + b"tR",
    "a method of text": called("builtins:str.format", text("{0.__class__}"), OS),
    "NEWOBJ": b"csubprocess\nPopen\n(" + listed(text("touch"), text(MARKER)) + b"t\x81",
    "NEWOBJ_EX": b"csubprocess\nPopen\n(" + listed(text("touch")) + b"t}\x92",
    "a function that is built": b"c_codecs\nencode\n}"
    + text("__setstate__")
    + THE_SYSTEM
    + b"sb"
    + SYSTEM
    + b"b",
    "a buffer": b"\x97" + THE_SYSTEM + b"(" + SYSTEM + b"tR",
}
PAYLOADS = REAL | OTHERS
DOUBLED = b"K\x01" + b"\x85" + b"2\x86" * 60  # a pair of the pair of the pair …: 2^60 numbers


def laughs(levels=60):
    """A list of the list of the list …, each twice: sixty small objects with 2^60 ends."""
    out = b"]q\x00"
    for level in range(levels):
        out += b"0](" + b"h%c" % level * 2 + b"eq%c" % (level + 1)
    return out


ABSURD = {  # small pickles that declare, or unfold to, what no memory holds
    "a key of 2^60 ends": b"}" + DOUBLED + b"Ns",
    "a set of 2^60 ends": b"\x8f(" + DOUBLED + b"\x90",
    "a list of 2^60 ends": laughs(),
    "a pair of 2^60 ends": DOUBLED,
    "text of 4 GB": b"X\xff\xff\xff\xff",
    "text of 2^63 bytes": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "bytes of 2^60": b"\x8e" + bytes(7) + b"\x10",
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "a number of -1 bytes": b"\x8b\xff\xff\xff\xff",
    "a number of 10,000 digits": b"I" + b"9" * 10_000 + b"\n",
    "a long of 10,000 digits": b"L" + b"9" * 10_000 + b"L\n",
    "a frame of 2^60 bytes": b"\x95" + bytes(7) + b"\x10N",
    "a memo index of 2^32": b"Nr\xff\xff\xff\xff",
    "nested too deep": b"(" * 100_000,
    "lists in lists": b"]" * 100_000 + b"a" * 99_999,
    "tuples in tuples": b")" + b"\x85" * 100_000,
}
PLACES = {  # where in a pickle a value stands
    "top": lambda value: value,
    "record": lambda value: b"}" + text("arch2infos") + b"}K\x00" + value + b"ss",
    "list": lambda value: b"](" + value + value + b"e",
    "table": lambda value: b"}(" + text("nasbench201") + value + text("data") + value + b"u",
    "header": lambda value: b"}(" + text("columns") + value + text("dataset_type") + value + b"u",
}


def pickled(value, place="top", protocol=4):
    return bytes([0x80, protocol]) + PLACES[place](value) + b"."
