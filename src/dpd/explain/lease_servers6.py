# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 lease servers in their own words: option 59, and for UEFI HTTP boot the vendor class that firmware asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dpd.explain.lease_server_choices import IPXE, Choice
from dpd.explain.lease_servers4 import quoted, single_quoted
from dpd.protocol.dhcp6.options import VendorClass, encode_vendor_class
from dpd.protocol.pxe.identity6 import INTEL

ANSWERING_CLASS = encode_vendor_class(
    VendorClass(INTEL, (b"HTTPClient",))
)  # without it HTTP boot passes an answer over

# dnsmasq writes option 16 as a text after its length, and never an enterprise number. EDK2 reads neither of them: it wants 16
# bytes with the word at the seventh, so that any four letters before it will do.
ANSWERING_TEXT = "UEFIHTTPClient"


def dnsmasq6(choices: Sequence[Choice]) -> str:
    """Lines of dnsmasq.conf."""
    lines = [f"dhcp-userclass=set:{IPXE}-v6,iPXE"]
    for choice in choices:
        tag = f"{choice.name}-v6"
        for code in choice.codes:
            lines.append(f"dhcp-vendorclass=set:{tag},enterprise:{INTEL},{choice.word}:Arch:{code:05d}")
    for choice in choices:
        tag = f"{choice.name}-v6"
        who = f"tag:{tag}" if not choice.codes or choice.is_http else f"tag:!{IPXE}-v6,tag:{tag}"
        lines.append(f"dhcp-option={who},option6:bootfile-url,{quoted(choice.loader)}")
        if choice.is_http:
            lines.append(f"dhcp-option={who},option6:16,{ANSWERING_TEXT}")
    return "\n".join(lines) + "\n"


def kea6(choices: Sequence[Choice]) -> str:
    """The "client-classes" of Dhcp6, as JSON."""
    return json.dumps({"client-classes": [_kea_class(choice) for choice in choices]}, indent=2) + "\n"


def _kea_class(choice: Choice) -> dict[str, Any]:
    options: list[dict[str, Any]] = [
        {"name": "bootfile-url", "data": choice.loader.replace(",", "\\,"), "always-send": True}
    ]
    if choice.is_http:
        vendor = {"code": 16, "csv-format": False, "data": ANSWERING_CLASS.hex().upper()}
        options.append({**vendor, "always-send": True})
    return {"name": f"dpd-{choice.name}", "test": _kea_test(choice), "option-data": options}


def _kea_test(choice: Choice) -> str:
    ipxe = "substring(option[15].hex,2,4) == 'iPXE'"
    if not choice.codes:
        return ipxe
    arch = " or ".join(f"option[61].hex == 0x{code:04x}" for code in choice.codes)
    return f"({arch})" + ("" if choice.is_http else f" and not ({ipxe})")


def isc6(choices: Sequence[Choice]) -> str:
    """Statements of dhcpd6.conf."""
    lines = [
        "option dhcp6.dpd-arch code 61 = string;",
        "option dhcp6.dpd-class code 16 = string;",
        "option dhcp6.dpd-user code 15 = string;",
    ]
    for position, choice in enumerate(choices):
        test = " or ".join(f"substring (option dhcp6.dpd-arch, 0, 2) = 00:{code:02x}" for code in choice.codes)
        ipxe = 'substring (option dhcp6.dpd-user, 2, 4) = "iPXE"'
        lines.append(f"{'els' if position else ''}if {test or ipxe} {{")
        lines.append(f"  option dhcp6.bootfile-url {quoted(choice.loader)};")
        if choice.is_http:
            lines.append(f"  option dhcp6.dpd-class {ANSWERING_CLASS.hex(':')};")
        lines.append("}")
    return "\n".join(lines) + "\n"


def windows6(choices: Sequence[Choice]) -> str:
    """PowerShell on the DHCP server. Its DHCPv6 has no policies: one URL for all, the first of PXE firmware."""
    loader = next((choice.loader for choice in choices if choice.codes and not choice.is_http), "")
    if not loader:
        return "# no PXE loader for IPv6\n"
    return (
        "# Windows DHCPv6 has no policies: every client is told this one loader.\n"
        "Add-DhcpServerv6OptionDefinition -OptionId 59 -Name 'OPT_BOOTFILE_URL' -Type String\n"
        f"Set-DhcpServerv6OptionValue -OptionId 59 -Value {single_quoted(loader)}\n"
    )
