# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe options`: the lines with which a lease server alone leads machines to their loaders."""

from __future__ import annotations

import ipaddress
import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpd.cli.options import JsonOption
from dpd.cli.screen import print_json
from dpd.cli.serve import NAMED, load_named
from dpd.errors import DpdError

if TYPE_CHECKING:
    from dpd.settings import Settings

ELSEWHERE = "192.0.2.1"  # for documentation, RFC 5737; nothing is sent there


class LeaseServer(StrEnum):
    """The lease servers that dpd can write for."""

    DNSMASQ = "dnsmasq"
    KEA = "kea"
    ISC = "isc"
    WINDOWS = "windows"


class AddressUnknown(DpdError):
    """Under which address machines reach this host cannot be told from here."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("options", epilog="Example: dpd pxe options --server kea --arch uefi-x64")(options)


def options(
    server: Annotated[LeaseServer | None, typer.Option(help="One kind of lease server; default: all.")] = None,
    arch: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="Such as uefi-x64; may be repeated; default: all.")
    ] = None,
    address: Annotated[str, typer.Option(metavar="A", help="dpd's IPv4 address, as machines reach it.")] = "",
    address6: Annotated[str, typer.Option(metavar="A", help="dpd's IPv6 address; without it no IPv6 lines.")] = "",
    config: Annotated[Path | None, typer.Option(metavar="FILE", help=f"Settings file; without it {NAMED}.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print lines for a lease server: for firmware that does not put its answer and dpd's together.

    With them the machine needs no proxyDHCP; policy then holds for what it fetches, and no longer for whether it boots.
    """
    from dpd.explain.lease_server_options import lease_server_options

    settings, _ = load_named(config)
    wanted = _loaders(settings, arch or [])
    own = _checked(address, 4) or settings.pxe.server_address or _own_address()
    texts = lease_server_options(own, _checked(address6, 6), wanted, settings.http.port)
    chosen = {name: text for name, text in texts.items() if server is None or name.rstrip("46") == server.value}
    if as_json:
        print_json(chosen)
        return
    for name, text in chosen.items():
        print(f"### {name.rstrip('46')}, IPv{name[-1]}\n{text.rstrip()}\n")


def _loaders(settings: Settings, only: list[str]) -> dict[str, str]:
    """What the rules give to each architecture, by its name; iPXE is one of them. Raises DpdError for unknown names."""
    from dpd.protocol.pxe.architectures import ARCH_NAMES

    loaders: dict[str, str] = {}
    for rule in settings.pxe.rule:
        codes = rule.client_arch or tuple(ARCH_NAMES)
        is_http = rule.client_class == "HTTPClient"
        names = {ARCH_NAMES[code] for code in codes if code in ARCH_NAMES}
        fitting = {"ipxe"} if rule.client_class == "iPXE" else {n for n in names if n.endswith("-http") == is_http}
        loaders |= {name: rule.loader for name in fitting if name not in loaders}
    unknown = [name for name in only if name not in loaders]
    if unknown:
        raise DpdError(f"{', '.join(unknown)}: no rule has a loader for it; there are: {', '.join(sorted(loaders))}")
    return {name: loader for name, loader in loaders.items() if not only or name in only or name == "ipxe"}


def _checked(address: str, version: int) -> str:
    try:
        if address and ipaddress.ip_address(address).version != version:
            raise ValueError
    except ValueError:
        raise DpdError(f"{address}: expected an IPv{version} address") from None
    return address


def _own_address() -> str:
    """The address from which the default route leaves. Raises AddressUnknown."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))  # sends nothing
        except OSError:
            raise AddressUnknown("this host's own address cannot be told; say it with --address") from None
        return str(probe.getsockname()[0])
