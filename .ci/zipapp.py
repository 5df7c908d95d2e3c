# SPDX-License-Identifier: Apache-2.0
"""Build dpd-receive.pyz: the receiver and the modules it imports, as one file for Python's standard library alone.

Equal sources give equal bytes: times are fixed, members are sorted.
"""

import sys
import zipfile
from modulefinder import ModuleFinder
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
ENTRY = "dpd.target.receive"
START = f"import sys\nfrom {ENTRY} import main\nsys.exit(main())\n"
INTERPRETER = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file knows


def modules() -> list[Path]:
    """Every file of dpd that the receiver can import, wherever in a function it does so."""
    finder = ModuleFinder([str(SOURCES), *sys.path])
    finder.import_hook(ENTRY, fromlist=["main"])
    names = sorted(name for name in finder.modules if name == "dpd" or name.startswith("dpd."))
    return [Path(str(getattr(finder.modules[name], "__file__"))) for name in names]  # noqa: B009  unknown to mypy


def build(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(INTERPRETER)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            members = {str(path.relative_to(SOURCES)): path.read_bytes() for path in modules()}
            for name, content in sorted((members | {"__main__.py": START.encode()}).items()):
                archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    target.chmod(0o755)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
