# SPDX-License-Identifier: Apache-2.0
"""Programs of the operator: with the run's variables in their environment, here or inside the new system."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dpd.target.work.program import ProgramFailed
from dpd.target.work.work import Work

RESULT = "_DPDLastActionResult"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Names that a variable does not take from the environment: another value would break the shell before the command begins.
_KEPT = frozenset({"PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELL", "PYTHONPATH", "PYTHONHOME"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def run_inside(work: Work, command: Sequence[str], folder: str = "") -> str:
    """Run it as the step's volume, success_codes and output_variable say. Raises ProgramFailed."""
    step = work.step
    volume = work.text("volume")
    root = work.volumes.system(volume) if volume else Path("/")
    words = list(command)
    here: str | None = folder or None
    if root != Path("/"):
        within = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder] if folder else []
        words, here = ["chroot", str(root), *within, *words], None
    try:
        ran = work.programs.run(
            *words, environment=environment(work), folder=here, success_codes=step.wholes("success_codes")
        )
    except ProgramFailed as failure:
        work.variables.put_built_in(RESULT, str(failure.code))
        raise
    work.variables.put_built_in(RESULT, str(ran.code))
    if variable := step.text("output_variable"):
        output = ran.output.strip()
        work.set_variable(variable, output, is_secret=work.variables.mask(output) != output)
    return f"exit code {ran.code}"


def environment(work: Work) -> dict[str, str]:
    """The variables of the run, a name's "-" as "_", over what every program expects."""
    told = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": os.environ.get("TERM", "linux")}
    for each in work.variables:
        name = each.name.replace("-", "_")
        if _NAME.fullmatch(name) and name not in _KEPT and not name.startswith("LD_"):
            told[name] = each.value
    return told
