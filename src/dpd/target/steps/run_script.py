# SPDX-License-Identifier: Apache-2.0
"""Runs a script from the document or from a package, here or inside the new system."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dpd.target.work.inside import run_inside
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import inside
from dpd.target.work.work import Work

NAME = "script"
_SUFFIXES = {"cmd": ".cmd", "powershell": ".ps1"}


def run(work: Work) -> str:
    volume = work.text("volume")
    root = work.volumes.system(volume) if volume else Path("/")
    base = root / "tmp" if volume else work.room
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="dpd-", dir=base))
    try:
        script = _lay_down(work, folder)
        seen = Path("/") / script.relative_to(root)
        return run_inside(work, [*_interpreter(work), str(seen), *work.texts("arguments")], str(seen.parent))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lay_down(work: Work, folder: Path) -> Path:
    """The script's file, with what lies beside it in its package."""
    text, package = work.step.text("script"), work.text("package")
    if text:
        script = folder / (NAME + _SUFFIXES.get(work.step.text("interpreter"), ""))
        script.write_text(text, "utf-8")
    elif package:
        description = work.content.describe(package, work.step.whole("version"))
        work.content.fetch_folder(description, folder, work.watch_bytes)
        names = [entry.path for entry in description.files]
        name = work.text("file") or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise StepFailed(f"{description}: has no file {name!r}; set file to one of {', '.join(names[:5])}")
        script = inside(folder, name)
    else:
        raise StepFailed("neither script nor package is set; expected one of both")
    script.chmod(0o700)
    return script


def _interpreter(work: Work) -> list[str]:
    match work.step.text("interpreter"):
        case "cmd":
            return ["cmd", "/c"]
        case "powershell":
            return ["powershell", "-ExecutionPolicy", "Bypass", "-File"]
        case interpreter:
            return [interpreter]
