# SPDX-License-Identifier: Apache-2.0
"""A run that goes on after a restart: this program and its state, put into the new system with a unit that starts it once.

/var/lib/dpd-target/dpd-target.pyz, ca.pem, signing-key     what runs there, and whom it trusts
/var/lib/dpd-target/run/run.json, log                       where the run is; readable for root alone
/etc/systemd/system/dpd-target.service                      goes away with all of it when the run ends
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.program import ProgramFailed, Programs
from dpd.target.work.state import NAME, State, StateFile
from dpd.target.work.step_failure import StepFailed

HOME = "var/lib/dpd-target"
UNIT = "etc/systemd/system/dpd-target.service"
WANTED = "etc/systemd/system/multi-user.target.wants/dpd-target.service"
PROGRAM = "dpd-target.pyz"
LOG = "log"
TRUST = ("ca.pem", "signing-key")
REBOOT = 0x01234567  # linux/reboot.h: LINUX_REBOOT_CMD_RESTART

_UNIT_TEXT = f"""[Unit]
Description=dpd: the rest of this machine's task sequence
Wants=network-online.target
After=network-online.target
ConditionPathExists=/{HOME}/run/{NAME}

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -S /{HOME}/{PROGRAM} deploy --resume --home /{HOME} --work /{HOME}/run
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


def install(root: Path, state: State, log: ExecutionLog, home: Path, program: Path) -> None:
    """Put everything into the system below `root`. Raises StepFailed."""
    if not (root / "usr/bin/python3").exists() and not (root / "usr/bin/python3").is_symlink():
        raise StepFailed(
            "the new system has no /usr/bin/python3, by which the steps behind the restart would run; add python3 to the image"
        )
    if not (root / "etc/systemd/system").is_dir():
        raise StepFailed(
            "the new system has no /etc/systemd/system, by which the steps behind the restart would be started"
        )
    import zipfile  # not before it is needed: the first step comes sooner

    if not zipfile.is_zipfile(program):
        raise StepFailed(f"{program}: is no zipapp; `python -m dpd.target.bundle` makes the one that a restart needs")
    place = root / HOME
    (place / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(program, place / PROGRAM)
    for name in TRUST:
        if (home / name).is_file():
            shutil.copyfile(home / name, place / name)
    (place / "run" / LOG).write_bytes(log.text())
    (place / "run" / LOG).chmod(0o600)
    StateFile(place / "run" / NAME).save(state)
    (root / UNIT).write_text(_UNIT_TEXT, "utf-8")
    wanted = root / WANTED
    wanted.parent.mkdir(exist_ok=True)
    if not wanted.is_symlink():
        wanted.symlink_to("/" + UNIT)


def uninstall(root: Path) -> None:
    """The run has ended: nothing of it stays, above all no secrets."""
    for name in (WANTED, UNIT):
        (root / name).unlink(missing_ok=True)
    shutil.rmtree(root / HOME, ignore_errors=True)


def restart(programs: Programs) -> None:
    """Restart the machine now: by the system's manager where there is one, else by the kernel."""
    os.sync()
    if Path("/run/systemd/system").is_dir():
        try:
            programs.run("systemctl", "reboot")
        except ProgramFailed:
            pass
        else:
            return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.reboot(REBOOT) != 0:
        raise OSError(ctypes.get_errno(), "reboot: " + os.strerror(ctypes.get_errno()))
