# SPDX-License-Identifier: Apache-2.0
"""The C and C++ programs of the benches, compiled when a bench runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILERS = {".c": "cc", ".cc": "c++"}


def compile_program(source: str, folder: Path, *libraries: str) -> Path:
    """Compile bench/`source` into `folder`; returns the program. Ends the bench where that cannot be done."""
    path = HERE / source
    compiler = COMPILERS[path.suffix]
    if shutil.which(compiler) is None:
        raise SystemExit(f"bench/{source}: {compiler}: not found; install gcc and g++, or clang")
    program = folder / path.stem
    command = [compiler, "-O2", "-o", str(program), str(path), *(f"-l{name}" for name in libraries)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        wanted = " ".join(libraries) or "the C library"
        raise SystemExit(f"bench/{source} does not compile; it needs the headers of {wanted}:\n{run.stderr.strip()}")
    return program
