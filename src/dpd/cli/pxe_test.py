# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe test`: starts dpd-probe, the program that plays a client, and shows its steps as they come.

The probe is another process and another program: it uses scapy, which is GPL-2.0-only, and which dpd never imports.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from dpd.cli.client import Client, DaemonUnreachable
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.errors import DpdError

PROBE = "dpd_probe"
WORDS = {
    "discover": "asks for a network boot as {mac}, {arch}",
    "solicit": "asks for a network boot over IPv6 as {mac}, {arch}",
    "offer": "is offered {loader} by {server}",
    "advertise": "is offered {loader}",
    "boot_request": "asks {server} on port {port} for its file",
    "boot_reply": "is told to load {loader} from {server}",
    "no_boot_reply": "{detail}",
    "silence": "no answer (try {attempt} of {of})",
    "fetch": "fetches {loader} by {protocol}",
    "fetched": "has {bytes} bytes in {seconds} s, SHA-256 {sha256}",
    "failed": "FAILED: {detail}",
}


class ProbeMissing(DpdError):
    """The program that plays the client is not there."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("test", epilog="Example: dpd pxe test --arch uefi-x64 --mac 02:00:00:00:00:01")(play)


def play(
    arch: Annotated[
        str, typer.Option(metavar="ARCH", help="Such as uefi-x64, bios, uefi-arm64, uefi-x64-http.")
    ] = "uefi-x64",
    mac: Annotated[str, typer.Option(metavar="MAC", help="Who the client says it is.")] = "02:00:00:00:00:01",
    guid: Annotated[str, typer.Option(metavar="GUID", help="The GUID that it tells.")] = "",
    relay: Annotated[str, typer.Option(metavar="ADDRESS", help="Ask as a relay, from this address of this host.")] = "",
    interface: Annotated[
        str, typer.Option(metavar="NAME", help="Broadcast on this interface instead; needs CAP_NET_RAW.")
    ] = "",
    server: Annotated[str, typer.Option(metavar="ADDRESS", help="The distribution point; default: this host.")] = "",
    family: Annotated[int, typer.Option(metavar="4|6", min=4, max=6, help="IPv4 or IPv6.")] = 4,
    ipxe: Annotated[bool, typer.Option("--ipxe", help="Ask as iPXE does.")] = False,
    secs: Annotated[int, typer.Option(metavar="S", min=0, help="For how long it says to have been asking.")] = 0,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, help="How long to wait for each answer.")] = 4.0,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Play a client against a distribution point, from its first question to the hash of its loader.

    Exit codes: 0 loader fetched, 1 not to be had, 2 wrong usage, 3 no answer, 4 sent on to the next boot device, 5 scapy is
    missing. Policy counts the MAC as a machine like any other.
    """
    if find_spec(PROBE) is None:
        raise ProbeMissing("dpd-probe is not installed: `pip install dpd[probe]`")
    local = "::1" if family == 6 else "127.0.0.1"
    asked = {"arch": arch, "mac": mac, "guid": guid, "family": family, "secs": secs, "timeout": timeout}
    place = (
        {"interface": interface, "server": server}
        if interface
        else {"relay": relay or local, "server": server or local}
    )
    words = [f"--{name}={value}" for name, value in (asked | place | ports_of(socket, family)).items() if value != ""]
    raise typer.Exit(run([*words, *(["--ipxe"] if ipxe else [])], as_json=as_json))


def run(words: list[str], *, as_json: bool) -> int:
    """Run the probe and show what it tells; its exit code."""
    process = subprocess.Popen([sys.executable, "-m", PROBE, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            print(line.rstrip("\n") if as_json else _shown(json.loads(line)), flush=True)
    return process.returncode


def _shown(told: dict[str, Any]) -> str:
    words = WORDS.get(told["step"])
    text = words.format_map(told) if words else " ".join(f"{name}={value}" for name, value in told.items())
    return f"{told['at_s']:8.3f} s  {_printable(text)}"


def _printable(text: str) -> str:
    """What a foreign server said does not get to steer the terminal."""
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]", "?", text)


def ports_of(socket: str, family: int) -> dict[str, object]:
    """The ports of the daemon on this host; the well-known ones where none runs."""
    try:
        services = Client(socket).get("status")["services"]
    except DaemonUnreachable:
        return {"port": 547} if family == 6 else {}
    ports = {service["name"]: service["ports"] for service in services}
    return dict(_found(ports.get("pxe6" if family == 6 else "pxe", {}), ports.get("tftp", {}), family))


def _found(pxe: dict[str, int], tftp: dict[str, int], family: int) -> Iterator[tuple[str, object]]:
    suffix = "6" if family == 6 else ""
    yield "port", pxe.get(f"port{suffix}", 547 if family == 6 else 67)
    yield "boot-port", pxe.get(f"boot_port{suffix}", 4011)
    yield "tftp-port", tftp.get("tftp", 69)
