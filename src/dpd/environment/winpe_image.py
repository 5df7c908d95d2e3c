# SPDX-License-Identifier: Apache-2.0
"""WinPE as deployment environment: the operator's boot.wim with our target inside, and a start command. Python's embeddable
distribution and the WIM itself are Microsoft's and the operator's; nothing of them is brought along by dpd."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dpd.content.wim import tool
from dpd.errors import BuildError

FOLDER = "/dpd"
START = "/Windows/System32/startnet.cmd"
PYTHON = "python.exe"
NAME = "boot.wim"


@dataclass(frozen=True, slots=True)
class WinpeWish:
    """`index`: the image of the WIM that is started. `python`: Python's embeddable distribution as a ZIP file. `start`: a command
    in place of ours."""

    wim: Path
    index: int
    target: Path
    python: Path | None = None
    authorities: bytes = b""
    public_key: str = ""
    start: str = ""


def build(wish: WinpeWish, folder: Path) -> Path:
    """A copy of the WIM with the target in it; the operator's own stays as it is. Raises BuildError, ContentError."""
    if not wish.start:
        raise BuildError(
            "say with --start what WinPE is to run: a batch file of yours that is in the WIM, or a command with the target, which receives "
            "an image there (docs/network-boot.md has both); task sequences are for Linux"
        )
    made = folder / NAME
    with tempfile.TemporaryDirectory(prefix="dpd-winpe-", dir=folder) as work:
        files = Path(work, "dpd")
        files.mkdir()
        if wish.python is not None:
            _unpack(wish.python, files / "python")
        shutil.copyfile(wish.target, files / "dpd-target.pyz")
        if wish.authorities:
            (files / "ca.pem").write_bytes(wish.authorities)
        if wish.public_key:
            (files / "signing-key").write_text(f"{wish.public_key}\n", encoding="ascii")
        start = Path(work, "startnet.cmd")
        start.write_bytes(start_script(wish.start))
        shutil.copyfile(wish.wim, made)
        made.chmod(0o644)
        present = {path.casefold() for path in tool.list_paths(made, wish.index)}
        commands = [f"delete '{FOLDER}' --recursive --force"] if FOLDER in present else []
        commands.append(f"add '{files}' '{FOLDER}'")
        if START.casefold() in present:
            commands.append(f"delete '{START}' --force")
        tool.update(made, wish.index, [*commands, f"add '{start}' '{START}'"])
    return made


def start_script(command: str) -> bytes:
    """startnet.cmd, which WinPE runs; lines end as cmd.exe expects."""
    text = (resources.files("dpd.environment") / "files" / "startnet.cmd").read_text(encoding="ascii")
    lines = [line for line in text.splitlines() if not line.startswith("rem ")]
    return "".join(f"{line}\r\n" for line in lines).replace("@START@", command).encode()


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as found:
            names = found.namelist()
            if PYTHON not in names:
                raise BuildError(f"{archive}: no {PYTHON} in it; expected python-3.N.N-embed-amd64.zip of python.org")
            for name in names:
                if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                    raise BuildError(f"{archive}: {name!r} leads out of its folder")
            found.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{archive}: {error}; expected Python's embeddable distribution as a ZIP file") from None
