# SPDX-License-Identifier: Apache-2.0
"""Programs that were compiled before they are run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dpd.environment.bytecode import Compiler, read_zipapp, write_zipapp
from dpd.errors import BuildError

MAIN = (
    b"import lab.answer\nprint(lab.answer.__spec__.loader.get_source('lab.answer').strip(), '=', lab.answer.answer)\n"
)
SOURCES = {
    "__main__.py": MAIN,
    "lab/__init__.py": b"",
    "lab/answer.py": b"names = {'a', 'b'}\nanswer = 42 if 'a' in names else 0\n",
}


def run(program: Path) -> str:
    return subprocess.run([sys.executable, "-I", "-S", str(program)], capture_output=True, text=True, check=True).stdout


def replaced(program: Path, output: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(output, "w") as new:
        for each in old.namelist():
            new.writestr(each, content if each == name else old.read(each))
    return output


@pytest.fixture
def program(tmp_path: Path) -> Path:
    write_zipapp(tmp_path / "program.pyz", SOURCES, Compiler())
    return tmp_path / "program.pyz"


def test_python_takes_the_bytecode_without_a_look_at_the_source(program: Path, tmp_path: Path) -> None:
    changed = replaced(program, tmp_path / "changed.pyz", "lab/answer.py", b"answer = 'compiled here'")
    assert run(changed) == "answer = 'compiled here' = 42\n"


def test_another_release_of_python_takes_the_source(program: Path, tmp_path: Path) -> None:
    """Bytecode begins with the number of the release that knows it."""
    with zipfile.ZipFile(program) as archive:
        bytecode = archive.read("lab/answer.pyc")
    assert bytecode.startswith(importlib.util.MAGIC_NUMBER)
    foreign = replaced(program, tmp_path / "foreign.pyz", "lab/answer.pyc", b"\0\1\r\n" + bytecode[4:])
    changed = replaced(foreign, tmp_path / "changed.pyz", "lab/answer.py", b"answer = 'compiled here'")
    assert run(changed) == "answer = 'compiled here' = compiled here\n"


def test_equal_sources_give_equal_bytes_wherever_they_are_built(program: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_zipapp(tmp_path / "again/other.pyz", read_zipapp(program), Compiler())
    assert (tmp_path / "again/other.pyz").read_bytes() == program.read_bytes()
    with zipfile.ZipFile(program) as archive:
        assert str(tmp_path).encode() not in b"".join(map(archive.read, archive.namelist()))


def test_sources_that_are_no_python_are_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot compile: File \"__main__\.py\", line 1\n.*def :"):
        write_zipapp(tmp_path / "program.pyz", {"__main__.py": b"def :\n"}, Compiler())


def test_a_compiler_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="/nowhere/python3: cannot compile"):
        write_zipapp(tmp_path / "program.pyz", SOURCES, Compiler(("/nowhere/python3",)))


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ZIP file")
    with pytest.raises(BuildError, match="text: File is not a zip file; expected what"):
        read_zipapp(tmp_path / "text")
