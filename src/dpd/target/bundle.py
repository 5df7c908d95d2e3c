# SPDX-License-Identifier: Apache-2.0
"""What runs on a machine that is being deployed, as one file that needs Python's standard library and nothing else.

    python -m dpd.target.bundle dpd-target.pyz
    python3 dpd-target.pyz deploy
    python3 dpd-target.pyz http://dp:8080 LAB00001 -o install.wim
    python3 dpd-target.pyz mc-test http://dp:8080

What goes in is found by following the imports of the commands and of the steps, also those inside functions; so it is never more
than is needed, and never less. Each module comes as source and as bytecode of the Python that builds this; another release
takes the source. Equal sources give equal bytes: times are fixed, members are sorted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from modulefinder import ModuleFinder
from pathlib import Path

import dpd
from dpd.environment.bytecode import Compiler, write_zipapp
from dpd.errors import BuildError
from dpd.sequence.records import StepKind
from dpd.target.steps import module_of

ENTRIES = (
    "dpd.target.receiving.receive",
    "dpd.target.network_test.mc_test",
    "dpd.target.deploy",
    "dpd.target.receiving.winpe_receive",
)
START = """import gc, sys
gc.disable()  # what is imported stays: to look through it meanwhile is a tenth of the start
arguments = sys.argv[1:]
if sys.platform == "win32":
    from dpd.target.receiving.winpe_receive import main
elif arguments[:1] == ["mc-test"]:
    from dpd.target.network_test.mc_test import main
    del arguments[0]
elif arguments[:1] == ["deploy"]:
    from dpd.target.deploy import main
    del arguments[0]
else:
    from dpd.target.receiving.receive import main
gc.freeze()
gc.enable()
sys.exit(main(arguments))
"""
SOURCES = Path(dpd.__path__[0]).parent


def modules() -> dict[str, Path]:
    """The modules of dpd that the commands can import, by name."""
    finder = ModuleFinder([str(SOURCES)])  # all else is the standard library's, or looked up at run time
    for entry in (*ENTRIES, *map(module_of, StepKind)):
        finder.import_hook(entry, fromlist=["main"])
    found = {name: getattr(module, "__file__", None) for name, module in finder.modules.items()}
    return {name: Path(file) for name, file in found.items() if file and name.partition(".")[0] == "dpd"}


def build(output: Path) -> None:
    """Write the bundle. Raises OSError, BuildError."""
    sources = {str(path.relative_to(SOURCES)): path.read_bytes() for path in modules().values()}
    write_zipapp(output, sources | {"__main__.py": START.encode()}, Compiler())


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m dpd.target.bundle dpd-receive.pyz", file=sys.stderr)
        return 2
    output = Path(arguments[0])
    try:
        build(output)
    except OSError as error:
        print(f"{output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
