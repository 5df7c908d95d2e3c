# SPDX-License-Identifier: Apache-2.0
"""The erasure code's arithmetic by Intel's ISA-L: 25 GB/s on one core where the standard library does 0.1.

The library is the system's (libisal.so.2), or the one inside the pyeclib wheel, of which nothing else is used: its own
interface adds an 80-byte header to each fragment and copies. Calls release the GIL. Without either, `best_codec` answers
with the standard library's codec; all give the same bytes.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache

from dpd.protocol.multicast.fec import Codec, StandardCodec

MAX_KEPT_MATRIX = 16 * 128  # bytes; its tables take 64 KiB, 256 of them 16 MiB; larger ones seldom come twice
# Bytes read, times rows written, up to which a call keeps the interpreter lock: 40 us and less. To give it away for so
# short a time costs more than it gives to others, since it takes up to 5 ms to get it back.
SHORT_BYTES = 1 << 20
GROUP, GROUPED_ROWS, GROUPED_BYTES = 8, 4, 16 * 1408  # see IsalCodec._combine_in_groups
_SKEW_BYTES = 320
_POINTER = "L"  # as wide as a pointer on every Linux


def _candidates() -> Iterator[str]:
    yield "libisal.so.2"
    for folder in sys.path:  # importlib.metadata would know, at the price of 20 ms at each receiver's start
        libraries = os.path.join(folder, "pyeclib.libs")
        if os.path.isdir(libraries):
            yield from (os.path.join(libraries, name) for name in os.listdir(libraries) if name.startswith("libisal"))


@lru_cache(maxsize=1)
def _load() -> ctypes.CDLL | None:
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            library.ec_init_tables.restype = library.ec_encode_data.restype = None
        except (OSError, AttributeError):
            continue
        return library
    return None


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@lru_cache(maxsize=1024)  # 1 MiB: 32 buffers of a receiver, each with a set for each column
def _pointers(begin: int, count: int, stride: int) -> array[int]:
    """Numbers only, so that they are never wrong for a buffer that has gone."""
    return array(_POINTER, range(begin, begin + count * stride, stride))


class IsalCodec:
    """`Codec` over ec_encode_data. To mend one column of a slab takes it 10 to 20 us, as little as 128 places in memory
    can be looked at; so nothing is done 128 times in Python."""

    name = "isa-l"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._short = ctypes.PyDLL(library._name)  # the same library; calls keep the interpreter lock
        self._threads = threading.local()
        self._kept_tables = lru_cache(maxsize=256)(self._make_tables)

    def combine(
        self, coefficients: Sequence[bytes], sources: memoryview, stride: int, outputs: Sequence[memoryview]
    ) -> None:
        length, count = len(outputs[0]), -(-len(sources) // stride)
        if len(outputs) <= GROUPED_ROWS and count > GROUP and length >= GROUPED_BYTES:
            self._combine_in_groups(coefficients, sources, stride, outputs)
        else:
            self._combine(coefficients, sources, stride, count, outputs)

    def _combine_in_groups(
        self, coefficients: Sequence[bytes], sources: memoryview, stride: int, outputs: Sequence[memoryview]
    ) -> None:
        """The rows of a slab lie a multiple of 4096 bytes apart, so that all of them meet in one set of the first-level
        cache, which holds 8: 128 at once push each other out before the next 64 bytes are read. One, two and four rows of
        parity take 0.17, 0.23 and 0.34 ms a slab in groups and 0.49, 0.43 and 0.35 at once; where the slab is in memory only, 0.4,
        0.4 and 0.7 and not 0.9, 0.9 and 1.6. For more rows the sums over the groups cost what they save."""
        length, starts = len(outputs[0]), range(0, len(sources), GROUP * stride)
        pitch = length + _SKEW_BYTES
        partial = self._scratch(pitch * len(starts) * len(outputs))
        begins = range(0, len(partial), pitch * len(starts))  # of each output's sums over the groups
        for i, start in enumerate(starts):
            group = sources[start : start + GROUP * stride]
            sums = [partial[at + i * pitch : at + i * pitch + length] for at in begins]
            lines = [line[i * GROUP : (i + 1) * GROUP] for line in coefficients]
            self._combine(lines, group, stride, -(-len(group) // stride), sums)
        ones = [bytes([1]) * len(starts)]
        for at, output in zip(begins, outputs, strict=True):
            self._combine(ones, partial[at : at + pitch * len(starts)], pitch, len(starts), [output])

    def _combine(
        self,
        coefficients: Sequence[bytes],
        sources: memoryview,
        stride: int,
        count: int,
        outputs: Sequence[memoryview],
    ) -> None:
        length, rows = len(outputs[0]), len(outputs)
        pointers = _pointers(_address(sources), count, stride)
        targets = array(_POINTER, map(_address, outputs))
        matrix = b"".join([line[:count] for line in coefficients])
        tables = (self._kept_tables if len(matrix) <= MAX_KEPT_MATRIX else self._make_tables)(matrix, count, rows)
        library = self._short if count * rows * length <= SHORT_BYTES else self._library
        library.ec_encode_data(
            length,
            count,
            rows,
            tables,
            ctypes.c_void_p(pointers.buffer_info()[0]),
            ctypes.c_void_p(targets.buffer_info()[0]),
        )

    def _scratch(self, size: int) -> memoryview:
        """Of this thread, with touched pages: to have the kernel zero new ones takes as long as the sums."""
        kept: bytearray = getattr(self._threads, "scratch", bytearray())
        if len(kept) < size:
            kept = self._threads.scratch = bytearray(size)
        return memoryview(kept)[:size]

    def _make_tables(self, matrix: bytes, count: int, rows: int) -> ctypes.Array[ctypes.c_char]:
        tables = ctypes.create_string_buffer(32 * count * rows)
        self._short.ec_init_tables(count, rows, matrix, tables)
        return tables


def best_codec() -> Codec:
    """The fastest codec that this machine offers."""
    library = _load()
    return IsalCodec(library) if library else StandardCodec()
