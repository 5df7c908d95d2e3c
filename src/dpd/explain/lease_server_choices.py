# SPDX-License-Identifier: Apache-2.0
"""What a lease server is to tell apart: iPXE, PXE and HTTP boot of each architecture, each with its loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from dpd.protocol.pxe.architectures import ARCH_NAMES, HTTP_SUFFIX

IPXE = "ipxe"
BOOT_THE_FILE_GIVEN = "060108ff"  # option 43: discovery control 8, end


@dataclass(frozen=True, slots=True)
class Choice:
    """One kind of machine and its loader: a file name or URL for DHCPv4, a URL for DHCPv6. `codes` are empty for iPXE."""

    name: str
    codes: tuple[int, ...]
    loader: str

    @property
    def is_http(self) -> bool:
        return self.name.endswith(HTTP_SUFFIX)

    @property
    def word(self) -> str:
        """What the vendor class of such a machine starts with, and what that of the answer has to be."""
        return "HTTPClient" if self.is_http else "PXEClient"


def choices4(server: str, loaders: Mapping[str, str], http_port: int) -> list[Choice]:
    """For DHCPv4: names stay as they are where TFTP takes them from next-server."""
    return [
        Choice(name, codes, _as_url(loader, server, http_port) if name.endswith(HTTP_SUFFIX) else loader)
        for name, codes, loader in _filled(loaders, server, http_port)
    ]


def choices6(server: str, loaders: Mapping[str, str], http_port: int) -> list[Choice]:
    """For DHCPv6: option 59 is always a URL, since there is no next-server."""
    host = f"[{server}]"
    return [
        Choice(name, codes, _as_url(loader, host, 0 if not name.endswith(HTTP_SUFFIX) else http_port))
        for name, codes, loader in _filled(loaders, host, http_port)
        if name != "bios"  # there is no PXE over IPv6 without UEFI
    ]


def _filled(loaders: Mapping[str, str], host: str, http_port: int) -> list[tuple[str, tuple[int, ...], str]]:
    """iPXE first, since it has the architecture of its firmware, too."""
    known: list[tuple[str, tuple[int, ...]]] = [(IPXE, ())] if IPXE in loaders else []
    known += [(name, _codes(name)) for name in dict.fromkeys(ARCH_NAMES.values()) if name in loaders]
    return [
        (name, codes, loaders[name].replace("{server}", host).replace("{http_port}", str(http_port)))
        for name, codes in known
    ]


def _codes(name: str) -> tuple[int, ...]:
    return tuple(code for code, known in ARCH_NAMES.items() if known == name)


def _as_url(loader: str, host: str, http_port: int) -> str:
    """A name as the URL under which dpd serves it; `http_port` 0 is TFTP."""
    if "://" in loader:
        return loader
    path = quote(loader.lstrip("/"), safe="/~")
    return f"http://{host}:{http_port}/boot/{path}" if http_port else f"tftp://{host}/{path}"
