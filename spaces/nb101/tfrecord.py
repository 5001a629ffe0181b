"""TFRecord files and protocol-buffer messages, as far as NAS-Bench-101 uses them.

A record is its length (uint64), the masked CRC32C of those eight bytes (uint32), its payload, and
the masked CRC32C of the payload (uint32), all little-endian (tensorflow/tensorflow, the comment at
the head of core/lib/io/record_writer.h). The checksums of thousands of records are taken at once,
column by column: about 0.5 µs a record of 400 bytes, where a loop over its bytes in Python would
take 40.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.table import TableError

BLOCK = 1 << 22  # bytes read at a time
LONGEST = 4096  # bytes of a payload; those of NAS-Bench-101 are near 400
LANES = 4096  # records whose checksums are taken at once
POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed (RFC 3720, appendix B.4)
MASK_DELTA = 0xA282EAD8  # tensorflow/tensorflow, core/lib/hash/crc32c.h
_ONES = 0xFFFFFFFF
_HEAD, _TAIL, _LENGTH = struct.Struct("<QI"), struct.Struct("<I"), struct.Struct("<Q")


def read_records(source: Path, progress: Progress) -> Iterator[list[bytes]]:
    """The payloads of a file, all checksums checked, as many at a time as a block holds.

    Raises:
        TableError: the file is cut off, a checksum is wrong, or a length is absurd.
    """
    rest, count = b"", 0
    blocks = ceil(source.stat().st_size / BLOCK)
    with source.open("rb") as file:
        for _ in progress(range(blocks), blocks):
            block = rest + file.read(BLOCK)
            payloads, checksums, used = _split(block, source.name, count)
            wrong = np.flatnonzero(masked(crc32c(payloads)) != np.array(checksums, np.uint32))
            if len(wrong):
                raise TableError(
                    f"{source.name} is damaged: record {count + wrong[0]} (from 0) does not have "
                    "the CRC32C that is written behind it"
                )
            yield payloads
            count += len(payloads)
            rest = block[used:]
    if rest:
        raise TableError(f"{source.name} is cut off within record {count} (from 0)")


def _split(block: bytes, name: str, count: int) -> tuple[list[bytes], list[int], int]:
    """The payloads and checksums of the whole records in a block, and where the last one ends.

    Args:
        count: the number of the first record.
    """
    payloads: list[bytes] = []
    checksums: list[int] = []
    at = 0
    while at + _HEAD.size <= len(block):
        length, checksum = _HEAD.unpack_from(block, at)
        if length > LONGEST or checksum != _checksum_of_length(length):
            raise TableError(
                f"{name} is no TFRecord file or damaged: the length of record "
                f"{count + len(payloads)} (from 0), {length} bytes, is above {LONGEST} or does not "
                "have the CRC32C that is written behind it"
            )
        begin, end = at + _HEAD.size, at + _HEAD.size + length
        if end + _TAIL.size > len(block):
            break
        payloads.append(block[begin:end])
        checksums.append(_TAIL.unpack_from(block, end)[0])
        at = end + _TAIL.size
    return payloads, checksums, at


@cache
def _checksum_of_length(length: int) -> int:
    return int(masked(crc32c([_LENGTH.pack(length)]))[0])


def frame(payloads: Sequence[bytes]) -> bytes:
    """The payloads as records."""
    checksums = masked(crc32c(payloads)).tolist()
    return b"".join(
        _HEAD.pack(len(payload), _checksum_of_length(len(payload))) + payload + _TAIL.pack(checksum)
        for payload, checksum in zip(payloads, checksums, strict=True)
    )


def masked(checksums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Rotated right by 15 bits, plus a constant, so that no data hold their own checksum."""
    rotated = checksums >> np.uint32(15) | checksums << np.uint32(17)
    return rotated + np.uint32(MASK_DELTA)


def crc32c(payloads: Sequence[bytes]) -> NDArray[np.uint32]:
    """The CRC32C of each.

    The checksum is linear: that of a register of zeros, which zeros before the data do not change,
    and that of a register of ones over as many zeros as there are data add up to it.
    """
    found = [np.zeros(0, np.uint32)]
    low, high = _word_tables()
    for first in range(0, len(payloads), LANES):
        some = payloads[first : first + LANES]
        width = 4 * ceil(max(1, *map(len, some)) / 4)
        padded = b"".join([payload.rjust(width, b"\0") for payload in some])
        words = np.frombuffer(padded, "<u4").reshape(len(some), width // 4)
        register = np.zeros(len(some), np.uint32)
        for column in np.ascontiguousarray(words.T):
            register ^= column
            register = low[register & np.uint32(0xFFFF)] ^ high[register >> np.uint32(16)]
        found.append(register ^ np.array([_of_ones(len(payload)) for payload in some], np.uint32))
    return np.concatenate(found)


@cache
def _byte_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ np.uint32(POLYNOMIAL) * (table & np.uint32(1))
    return table


@cache
def _word_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """What the low and the high half of a register become when four bytes leave it."""
    table = _byte_table()
    tables = [table]
    for _ in range(3):
        tables.append(table[tables[-1] & np.uint32(255)] ^ tables[-1] >> np.uint32(8))
    pairs = np.arange(1 << 16)
    first, second, third, fourth = (
        tables[3][pairs & 255],
        tables[2][pairs >> 8],
        tables[1][pairs & 255],
        tables[0][pairs >> 8],
    )
    return first ^ second, third ^ fourth


@cache
def _of_ones(length: int) -> int:
    """What a register of ones becomes over so many zeros, and the final inversion."""
    table, register = _byte_table().tolist(), _ONES
    for _ in range(length):
        register = table[register & 255] ^ register >> 8
    return int(register ^ _ONES)


def fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """The fields of a message: number, wire type, and a whole number or the bytes of the value.

    Raises:
        ValueError: it is no protocol-buffer message; groups, which are obsolete, are refused too.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"field number {number}")
        if wire == 0:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if length > end - at:
            raise ValueError("a field that is longer than its message")
        yield number, wire, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A whole number of up to ten bytes, seven bits each, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, at
    raise ValueError("a number that does not end")
