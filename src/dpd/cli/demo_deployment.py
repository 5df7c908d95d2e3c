# SPDX-License-Identifier: Apache-2.0
"""The machine of `dpd demo` that takes a task sequence: known, deployed, booted by iPXE, and run by the program of the deployment
environment, which is a process here in place of the one after its kernel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpd.cli.boot_client import ask_for_boot
from dpd.errors import DpdError

COMPUTER, MAC = "DEMO-PC", "52:54:00:de:30:02"
BOOT_IMAGE, SEQUENCE = "DEMO0002", "demo"
FETCH_S = 10.0
POLL_S = 0.2
KERNEL_LINE = re.compile(r"^kernel \S+ (.*) \|\|", re.MULTILINE)

DOCUMENT = """
name = "{name}"
description = "Receives the image of the demo and compares it"

[[step]]
name = "Check the machine"
do = "check_readiness"
minimum_ram = "256MB"

[[step]]
name = "Image"

  [[step.step]]
  name = "Receive it"
  do = "join_multicast"
  package = "{package}"
  variable = "IMAGE"

  [[step.step]]
  name = "Compare it"
  do = "run_command_line"
  command = "echo {sha256} %IMAGE% | sha256sum --check --status"
"""

Command = Callable[..., Any]  # of dpd, with its arguments; its JSON answer


def deploy(folder: Path, socket: Path, dpd: Command, package: str, sha256: str) -> dict[str, Any]:
    """From the machine's record to the end of its sequence, which is shown as it goes; its execution. Raises DpdError."""
    home = folder / "machine"
    home.mkdir()
    _publish(home, dpd, package, sha256)
    ports = {service["name"]: service["ports"] for service in dpd("status")["services"]}
    command_line = _boot(ports["pxe"]["boot_port"], ports["http"]["http"])
    (home / "cmdline").write_text(command_line, encoding="utf-8")
    command = [sys.executable, "-m", "dpd.target.deploy", "--no-restart", "--home", home]
    command += ["--work", home / "work", "--command-line", home / "cmdline"]
    with (home / "log").open("wb") as log:
        target = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        while target.poll() is None and not dpd("deploy", "list")["executions"]:
            time.sleep(POLL_S)  # it says hello first
        _watch(socket)
        target.wait(FETCH_S)
    finally:
        target.kill()
        target.wait()
    executions = dpd("deploy", "list")["executions"]
    if not executions or executions[0]["state"] != "done":
        told = (home / "log").read_text("utf-8", "replace")[-1000:]
        raise DpdError(f"the task sequence did not get done; the machine said:\n{told}")
    return dict(executions[0])


def _publish(home: Path, dpd: Command, package: str, sha256: str) -> None:
    """A kernel of zeros: nothing starts it here. All else is as for a real machine."""
    for part in ("vmlinuz", "initrd"):
        (home / part).write_bytes(bytes(4096))
    parts = ("--kernel", str(home / "vmlinuz"), "--initrd", str(home / "initrd"))
    dpd("boot-image", "add", "--id", BOOT_IMAGE, *parts, "--arch", "x64")
    document = home / "demo.toml"
    document.write_text(DOCUMENT.format(name=SEQUENCE, package=package, sha256=sha256), encoding="utf-8")
    dpd("sequence", "publish", str(document))
    dpd("computer", "add", COMPUTER, "--mac", MAC)
    dpd(
        *("deployment", "add", "--computer", COMPUTER, "--boot-image", BOOT_IMAGE),
        *("--sequence", SEQUENCE, "--required"),
    )


def _boot(boot_port: int, http_port: int) -> str:
    """As an iPXE with a lease does: the boot server is asked, its script fetched. What is behind `kernel URL`, with the proof."""
    ask_for_boot("127.0.0.1", boot_port, MAC)
    url = f"http://127.0.0.1:{http_port}/boot/boot.ipxe"
    try:
        with urllib.request.urlopen(url, timeout=FETCH_S) as answer:
            script = answer.read().decode()
    except (OSError, urllib.error.URLError) as error:
        raise DpdError(f"HTTP: {url}: {error}") from None
    found = KERNEL_LINE.search(script)
    if found is None:
        raise DpdError(f"{url}: the boot script starts no kernel:\n{script}")
    return f"{found[1]} BOOTIF=01-{MAC.replace(':', '-')}"  # no interface here has the machine's address


def _watch(socket: Path) -> None:
    """`dpd deploy watch`, on the terminal where there is one, until the machine is done."""
    command = [sys.executable, "-m", "dpd", "deploy", "watch", "--machine", COMPUTER, "--until-done"]
    environment = {**os.environ, "DPD_SOCKET": str(socket)}
    subprocess.run(command, env=environment, check=False)  # its exit code says less than the execution
