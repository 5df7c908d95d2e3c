# SPDX-License-Identifier: Apache-2.0
"""The erasure code's speed: ISA-L, the standard library's fallback, and zfec from PyPI where that is installed.

A slab of 128 rows x 32 columns x 1408 bytes. *encode h*: h parity rows of it. *recover e rows*: the same e rows are lost in
all columns, as where trains get lost. *recover e scattered*: each column lost e other rows, as where datagrams get lost: 32
calls, and 32 small matrices to invert. GB/s are bytes of the slab by seconds of CPU; every result is compared with the
original.

zfec inverts a k x k matrix for each recovery and has no parity row that is plain XOR; it is no dependency of dpd:
`pip install zfec` where it is wanted.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from bench.machine import Spread, print_facts, ratio, spread, table

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.fec import Codec, StandardCodec, encode_parity, recover_columns
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SLAB_BYTES, SYMBOL_BYTES
from dpd.service.isal import best_codec

COUNTS = (1, 4, 16)


class Coder(Protocol):
    """One implementation, measured through its own interface."""

    name: str

    def encode(self, slab: bytearray, count: int) -> Sequence[Buffer]: ...

    def recover(self, slab: bytearray, parity: Sequence[Buffer], lost: Sequence[Sequence[int]]) -> bytearray:
        """The slab again. lost[column]: the rows that it lacks; one entry: the same rows in every column."""


class OurCoder:
    """dpd with one of its codecs."""

    def __init__(self, codec: Codec) -> None:
        self.name = f"dpd, {codec.name}"
        self._codec = codec

    def encode(self, slab: bytearray, count: int) -> list[bytearray]:
        return encode_parity(self._codec, memoryview(slab), 0, count)

    def recover(self, slab: bytearray, parity: Sequence[Buffer], lost: Sequence[Sequence[int]]) -> bytearray:
        width = COLUMNS // len(lost)
        for i, rows in enumerate(lost):
            first = i * width
            span = slice(first * SYMBOL_BYTES, (first + width) * SYMBOL_BYTES)
            symbols = {r: memoryview(parity[r])[span] for r in range(len(rows))}
            recover_columns(self._codec, memoryview(slab), first, width, rows, symbols)
        return slab


class Zfec:
    """zfec, with whole rows or columns cut out as its interface wants them: one bytes object for each block."""

    name = "zfec"

    def __init__(self, module: Any) -> None:
        self._module = module

    def encode(self, slab: bytearray, count: int) -> list[bytes]:
        encoder = self._module.Encoder(ROWS, ROWS + count)
        rows = [bytes(slab[at : at + ROW_BYTES]) for at in range(0, SLAB_BYTES, ROW_BYTES)]
        encoded: list[bytes] = encoder.encode(rows, list(range(ROWS, ROWS + count)))
        return encoded

    def recover(self, slab: bytearray, parity: Sequence[Buffer], lost: Sequence[Sequence[int]]) -> bytearray:
        width = COLUMNS // len(lost) * SYMBOL_BYTES
        for i, missing in enumerate(lost):
            first = i * width
            decoder = self._module.Decoder(ROWS, ROWS + len(parity))
            numbers, blocks = (
                list(range(ROWS)),
                [bytes(slab[at : at + width]) for at in range(first, SLAB_BYTES, ROW_BYTES)],
            )
            for r, row in enumerate(missing):
                numbers[row], blocks[row] = ROWS + r, bytes(parity[r][first : first + width])
            whole = decoder.decode(blocks, numbers)
            for row in missing:
                slab[row * ROW_BYTES + first : row * ROW_BYTES + first + width] = whole[row]
        return slab


def coders() -> Iterator[Coder]:
    """Those that are here; the others are named on stderr."""
    if best_codec().name == StandardCodec.name:
        print("isa-l: skipped, neither libisal.so.2 nor the pyeclib package is installed", file=sys.stderr)
    else:
        yield OurCoder(best_codec())
    yield OurCoder(StandardCodec())
    try:
        yield Zfec(importlib.import_module("zfec"))
    except ImportError:
        print("zfec: skipped, the package of that name is not installed", file=sys.stderr)


def lost_rows(count: int, *, scattered: bool) -> list[list[int]]:
    rng = random.Random(count)
    return [sorted(rng.sample(range(ROWS), count)) for _ in range(COLUMNS if scattered else 1)]


def measure(work: Callable[[], object], runs: int, run_s: float) -> Spread:
    """GB/s of CPU time; each run repeats the work until it has taken run_s."""
    work()
    rates = []
    for _ in range(runs):
        begun, done = time.process_time(), 0
        while time.process_time() - begun < run_s or not done:
            work()
            done += 1
        rates.append(done * SLAB_BYTES / (time.process_time() - begun) / 1e9)
    return spread(rates)


def measure_encode(coder: Coder, slab: bytearray, count: int, runs: int, run_s: float) -> Spread:
    return measure(lambda: coder.encode(slab, count), runs, run_s)


def measure_recover(coder: Coder, slab: bytearray, count: int, runs: int, run_s: float, *, scattered: bool) -> Spread:
    parity, lost = coder.encode(slab, count), lost_rows(count, scattered=scattered)
    damaged = bytearray(slab)
    width = ROW_BYTES // len(lost)
    for i, rows in enumerate(lost):
        for row in rows:
            damaged[row * ROW_BYTES + i * width : row * ROW_BYTES + (i + 1) * width] = bytes(width)
    if coder.recover(bytearray(damaged), parity, lost) != slab:
        sys.exit(f"{coder.name}: the slab that came back from {count} losses is another one")
    return measure(lambda: coder.recover(damaged, parity, lost), runs, run_s)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fec", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short run of each: seconds, and rough")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default 5)")
    options = parser.parse_args(arguments)
    runs, run_s = (1, 0.05) if options.quick else (options.runs, 0.3)
    slab = bytearray(random.Random(1).randbytes(SLAB_BYTES))
    found = list(coders())
    print_facts()
    rows = []
    for kind in ("encode", "recover rows", "recover scattered"):
        for count in COUNTS:
            rates = {
                coder.name: measure_encode(coder, slab, count, runs, run_s)
                if kind == "encode"
                else measure_recover(coder, slab, count, runs, run_s, scattered="scattered" in kind)
                for coder in found
            }
            first = found[0].name
            row: dict[str, Any] = {"GB/s of source": f"{kind} {count}"}
            for name, rate in rates.items():
                row[name] = str(rate)
            for name in list(rates)[1:]:
                row[f"{first} : {name}"] = ratio(rates[first], rates[name])
            rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    main()
