# SPDX-License-Identifier: Apache-2.0
"""`dpd receive`: an image from a distribution point's multicast session into a file.

Exit codes: 0 complete, 1 failed, 2 wrong usage, 3 no such content, 4 distribution point or multicast out of reach,
5 the content is not what its manifest says, 6 the distribution point serves this receiver no more, 130 interrupted. A run that failed goes on where it was when run again.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence

from dpd.errors import ContentCorrupt, ContentNotFound, DpdError
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.receiving.progress import Display
from dpd.target.receiving.reception import Kicked, Reception

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_CORRUPT, EXIT_KICKED, EXIT_INTERRUPTED = (
    1,
    2,
    3,
    4,
    5,
    6,
    130,
)
EXAMPLE = "example: dpd receive http://dp:8080 LAB00001 -o install.wim --interface eth0"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse, since this must run where nothing is installed."""
    parser = argparse.ArgumentParser(prog="dpd receive", description="Receive an image by multicast.", epilog=EXAMPLE)
    parser.add_argument("url", help="the distribution point, such as http://dp:8080")
    parser.add_argument("package", help="the package id, such as LAB00001")
    parser.add_argument(
        "-o", "--output", required=True, help="the file to write; .part and .journal stand beside it meanwhile"
    )
    parser.add_argument("--source-version", type=int, help="default: the newest")
    parser.add_argument("--interface", default="", help="default: the one that reaches the distribution point")
    parser.add_argument(
        "--ca-file", default="", help="PEM file of the authority behind an https address; default: the system's"
    )
    parser.add_argument("--public-key", default="", help="64 hex digits: only a manifest signed by this key is taken")
    parser.add_argument(
        "--slots", type=int, default=16, help="slabs of 5.5 MiB assembled at once, 4 to 64 (default 16)"
    )
    parser.add_argument(
        "--patience", type=float, default=600.0, help="seconds without progress before giving up (default 600)"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines, as when standard error is not a terminal")
    options = parser.parse_args(arguments)
    if not 4 <= options.slots <= 64:
        parser.error(f"--slots {options.slots}: expected 4 to 64")
    try:
        if options.public_key and len(bytes.fromhex(options.public_key)) != 32:
            raise ValueError
    except ValueError:
        parser.error("--public-key: expected 64 hex digits")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()  # what was imported stays: to look through it again and again took 3 % of a receiver's CPU
    display = Display(options.package, as_json=options.json or not sys.stderr.isatty())
    started = time.monotonic()
    try:
        sources = Reception(options, display).run()
    except KeyboardInterrupt:
        display.tell("interrupted", next="run the same command again to go on")
        return EXIT_INTERRUPTED
    except DpdError as error:
        display.tell("failed", reason=str(error))
        return _exit_code(error)
    display.tell("completed", output=options.output, seconds=round(time.monotonic() - started, 3), **sources)
    return 0


def _exit_code(error: DpdError) -> int:
    if isinstance(error, ContentNotFound):
        return EXIT_NOT_FOUND
    if isinstance(error, Unreachable):
        return EXIT_UNREACHABLE
    if isinstance(error, Kicked):
        return EXIT_KICKED
    return EXIT_CORRUPT if isinstance(error, ContentCorrupt) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
