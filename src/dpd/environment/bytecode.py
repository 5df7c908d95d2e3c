# SPDX-License-Identifier: Apache-2.0
"""Python that was compiled before it is run: a machine that is being deployed starts our target once, and would spend more time on
compiling it than on all else until the first step.

The bytecode is taken without a look at its source, and only by the release of Python that it was made for; any other takes the
source that lies beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpd.errors import BuildError

INTERPRETER = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file knows
LIMIT_S = 600
# In an interpreter of its own that has seen nothing else, and with one order of sets: so that equal sources give equal bytes.
COMPILE = """
import pathlib, py_compile, sys
root, out = map(pathlib.Path, sys.argv[1:3])
for source in sorted(root.rglob("*.py")):
    name = source.relative_to(root)
    target = out / name.with_suffix(".pyc")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        py_compile.compile(str(source), str(target), sys.argv[3] + str(name), doraise=True, optimize=0,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except py_compile.PyCompileError as error:
        sys.exit(error.msg)
"""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A command that runs a Python. `library`: the sources of its standard library, where they do not lie as it was built for."""

    command: tuple[str, ...] = (sys.executable,)
    library: Path | None = None

    def compile(self, sources: Path, compiled: Path, shown_below: str = "") -> None:
        """Every .py of a folder as .pyc in another. `shown_below`: what tracebacks put before its name. Raises BuildError."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        with tempfile.TemporaryDirectory(prefix="dpd-python-") as folder:
            if self.library is not None:
                environment |= {"PYTHONPATH": str(self.library), "PYTHONHOME": folder}
            program = Path(folder, "compile.py")
            program.write_text(COMPILE, encoding="ascii")
            try:
                subprocess.run(
                    [*self.command, "-S", str(program), str(sources), str(compiled), shown_below],
                    env=environment, capture_output=True, text=True, check=True, timeout=LIMIT_S,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                said = str(getattr(error, "stderr", "") or error).strip()
                raise BuildError(f"{self.command[-1]}: cannot compile: {said[-600:]}") from None


def write_zipapp(
    output: Path, sources: Mapping[str, bytes], compiler: Compiler, *, compression: int = zipfile.ZIP_DEFLATED
) -> None:
    """A program of modules by their names, __main__.py among them, each with its bytecode. Equal sources and an equal compiler
    give equal bytes. Raises OSError, BuildError."""
    members = dict(sources) | _compiled(sources, compiler)
    with output.open("wb") as file:
        file.write(INTERPRETER)
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in sorted(members.items()):
                archive.writestr(zipfile.ZipInfo(name, EPOCH), content, compression)
    output.chmod(0o755)


def read_zipapp(program: Path) -> dict[str, bytes]:
    """The modules of a program by their names. Raises BuildError."""
    try:
        with zipfile.ZipFile(program) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    except (OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{program}: {error}; expected what `python -m dpd.target.bundle` makes") from None


def _compiled(sources: Mapping[str, bytes], compiler: Compiler) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="dpd-bytecode-") as folder:
        root, out = Path(folder, "program"), Path(folder, "compiled")
        for name, content in sources.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        compiler.compile(root, out)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.pyc")}
