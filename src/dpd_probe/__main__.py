# SPDX-License-Identifier: Apache-2.0
"""`dpd-probe --arch uefi-x64 --mac … --server …`: one boot from the first question to the loader's hash.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys

from dpd_probe.client import ARCHITECTURES, Client, Target
from dpd_probe.steps import Account, Ending, ProbeError

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def main(arguments: list[str] | None = None) -> int:
    """The console script; the exit codes are those of steps.Ending."""
    given = _parser().parse_args(arguments)
    client = Client(given.mac, given.arch, given.guid, given.ipxe, given.secs)
    target = Target(
        given.server, given.port, given.boot_port, given.tftp_port, given.relay, given.interface, given.timeout
    )
    account = Account()
    try:
        _check(target, given.family)
        _boot(client, target, given.family, account)
    except ProbeError as error:
        account.tell("failed", reason=error.reason, detail=str(error))
        return error.ending
    except KeyboardInterrupt:
        return Ending.FAILED
    return Ending.BOOTED


def _boot(client: Client, target: Target, family: int, account: Account) -> None:
    try:
        from dpd_probe import dhcp4, dhcp6
        from dpd_probe.fetch import fetch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "scapy":
            raise
        raise ProbeError(Ending.NO_SCAPY, "no_scapy", "scapy is not installed: `pip install dpd[probe]`") from None
    told = (dhcp6 if family == 6 else dhcp4).ask(client, target, account)
    if told.is_local:
        raise ProbeError(Ending.NOT_TO_BOOT, "not_to_boot", "the answer sends the machine to its next boot device")
    if not told.loader:
        raise ProbeError(Ending.FAILED, "no_loader", "the answer names no file")
    fetch(told, target, account)


def _check(target: Target, family: int) -> None:
    if not target.relay and not target.interface:
        raise ProbeError(Ending.USAGE, "usage", "--relay ADDRESS or --interface NAME is needed")
    if target.relay and not target.server:
        raise ProbeError(Ending.USAGE, "usage", "--server ADDRESS is needed with --relay")
    for address in filter(None, (target.relay, target.server)):
        try:
            version = ipaddress.ip_address(address.partition("%")[0]).version
        except ValueError:
            raise ProbeError(Ending.USAGE, "usage", f"{address}: no IP address") from None
        if version != family:
            raise ProbeError(Ending.USAGE, "usage", f"{address}: no IPv{family} address; see --family")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpd-probe", description="Play a network-boot client; one JSON object a line.")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="uefi-x64")
    parser.add_argument("--mac", type=_mac, required=True)
    parser.add_argument("--guid", type=_guid, default="")
    parser.add_argument("--ipxe", action="store_true", help="ask as iPXE, behind the firmware")
    parser.add_argument("--secs", type=int, default=0, help="seconds that the machine says it has been asking")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    parser.add_argument("--server", default="", help="the distribution point's address")
    parser.add_argument("--relay", default="", help="ask as a relay, from this address of this host")
    parser.add_argument("--interface", default="", help="broadcast here instead; needs CAP_NET_RAW")
    parser.add_argument("--port", type=int, default=67)
    parser.add_argument("--boot-port", type=int, default=4011)
    parser.add_argument("--tftp-port", type=int, default=69)
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds to wait for each answer")
    return parser


def _mac(text: str) -> str:
    digits = re.sub(r"[:.-]", "", text.lower())
    mac = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    if not MAC.fullmatch(mac):
        raise argparse.ArgumentTypeError(f"{text!r}: expected six bytes such as 52:54:00:12:34:56")
    return mac


def _guid(text: str) -> str:
    if text and not GUID.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a GUID")
    return text.lower()


if __name__ == "__main__":
    sys.exit(main())
