# SPDX-License-Identifier: Apache-2.0
"""DHCPv4 lease servers in their own words: next-server, boot file, options 66 and 67, and the class that firmware asks for.

With these a lease server alone leads each machine to its loader, for firmware that never puts two offers together. PXE
firmware also gets options 60 and 43 with discovery control 8, "boot the file given here", as dpd's own offers have them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dpd.explain.lease_server_choices import BOOT_THE_FILE_GIVEN, IPXE, Choice


def quoted(text: str) -> str:
    """A text for dnsmasq and for ISC's dhcpd, which both read backslashes as C does."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def single_quoted(text: str) -> str:
    """A text for PowerShell, which takes anything but its own quote as it is."""
    return "'" + text.replace("'", "''") + "'"


def dnsmasq4(choices: Sequence[Choice], server: str) -> str:
    """Lines of dnsmasq.conf."""
    lines = [f"dhcp-match=set:{IPXE},175", f"dhcp-userclass=set:{IPXE},iPXE"]
    for choice in choices:
        lines += [f"dhcp-match=set:{choice.name},option:client-arch,{code}" for code in choice.codes]
    for choice in choices:
        if choice.is_http:
            lines.append(f"dhcp-option-force=tag:{choice.name},60,HTTPClient")
            lines.append(f"dhcp-boot=tag:{choice.name},{quoted(choice.loader)}")
            continue
        who = f"tag:{choice.name}" if choice.name == IPXE else f"tag:!{IPXE},tag:{choice.name}"
        lines.append(f"dhcp-boot={who},{quoted(choice.loader)},{server},{server}")
        if choice.name != IPXE:
            lines.append(f"dhcp-option-force={who},60,PXEClient")
            lines.append(f"dhcp-option-force={who},43,{_colons(BOOT_THE_FILE_GIVEN)}")
    return "\n".join(lines) + "\n"


def kea4(choices: Sequence[Choice], server: str) -> str:
    """The "client-classes" of Dhcp4, as JSON."""
    return json.dumps({"client-classes": [_kea_class(choice, server) for choice in choices]}, indent=2) + "\n"


def _kea_class(choice: Choice, server: str) -> dict[str, Any]:
    options = [
        {"name": "boot-file-name", "data": choice.loader.replace("\\", "\\\\").replace(",", "\\,"), "always-send": True}
    ]
    if choice.is_http:
        options.append({"name": "vendor-class-identifier", "data": choice.word, "always-send": True})
    else:
        options.append({"name": "tftp-server-name", "data": server, "always-send": True})
    if choice.codes and not choice.is_http:
        options.append({"name": "vendor-class-identifier", "data": choice.word, "always-send": True})
        boot = {"name": "vendor-encapsulated-options", "data": BOOT_THE_FILE_GIVEN, "csv-format": False}
        options.append({**boot, "always-send": True})
    return {
        "name": f"dpd-{choice.name}",
        "test": _kea_test(choice),
        **({} if choice.is_http else {"next-server": server, "boot-file-name": choice.loader}),
        "option-data": options,
    }


def _kea_test(choice: Choice) -> str:
    ipxe = "(option[175].exists or substring(option[77].hex,0,4) == 'iPXE')"
    if not choice.codes:
        return ipxe
    arch = " or ".join(f"option[93].hex == 0x{code:04x}" for code in choice.codes)
    word = f"substring(option[60].hex,0,{len(choice.word)}) == '{choice.word}'"
    return f"{word} and ({arch})" + ("" if choice.is_http else f" and not {ipxe}")


def isc4(choices: Sequence[Choice], server: str) -> str:
    """Statements of dhcpd.conf."""
    lines = ["option dpd-client-arch code 93 = unsigned integer 16;", "option dpd-ipxe code 175 = string;"]
    pxe = [choice for choice in choices if not choice.is_http]
    http = [choice for choice in choices if choice.is_http]
    if pxe:
        lines += [
            'class "dpd-pxe" {',
            '  match if substring (option vendor-class-identifier, 0, 9) = "PXEClient";',
            f"  next-server {server};",
            f'  option tftp-server-name "{server}";',
            *_isc_branches(pxe),
            "}",
        ]
    if http:
        lines += [
            'class "dpd-http" {',
            '  match if substring (option vendor-class-identifier, 0, 10) = "HTTPClient";',
            '  option vendor-class-identifier "HTTPClient";',
            *_isc_branches(http),
            "}",
        ]
    return "\n".join(lines) + "\n"


def _isc_branches(choices: Sequence[Choice]) -> list[str]:
    lines = []
    for position, choice in enumerate(choices):
        test = " or ".join(f"option dpd-client-arch = 00:{code:02x}" for code in choice.codes)
        ipxe = 'exists dpd-ipxe or option user-class = "iPXE"'
        lines.append(f"  {'els' if position else ''}if {test or ipxe} {{")
        lines.append(f"    filename {quoted(choice.loader)};")
        lines.append(f"    option bootfile-name {quoted(choice.loader)};")
        if choice.codes and not choice.is_http:
            lines.append('    option vendor-class-identifier "PXEClient";')
            lines.append(f"    option vendor-encapsulated-options {_colons(BOOT_THE_FILE_GIVEN)};")
        lines.append("  }")
    return lines


def windows4(choices: Sequence[Choice], server: str) -> str:
    """PowerShell on the DHCP server, and netsh for the option that it does not know. Policies tell vendor classes apart."""
    lines = ["netsh dhcp server add optiondef 60 ClassIdentifier STRING 0 comment='class of the boot server'"]
    for choice in choices:
        name = single_quoted(f"dpd {choice.name}")
        if not choice.codes:
            lines.append(f"Add-DhcpServerv4Class -Name {name} -Type User -Data 'iPXE'")
            lines.append(f"Add-DhcpServerv4Policy -Name {name} -Condition OR -UserClass EQ,{name} -ProcessingOrder 1")
        else:
            classes = [single_quoted(f"dpd {choice.name} {code}") for code in choice.codes]
            for each, code in zip(classes, choice.codes, strict=True):
                data = single_quoted(f"{choice.word}:Arch:{code:05d}")
                lines.append(f"Add-DhcpServerv4Class -Name {each} -Type Vendor -Data {data}")
            matches = ",".join(f"{each[:-1]}*'" for each in classes)
            lines.append(f"Add-DhcpServerv4Policy -Name {name} -Condition OR -VendorClass EQ,{matches}")
        options = [(67, choice.loader)] if choice.is_http else [(66, server), (67, choice.loader)]
        options += [(60, choice.word)] if choice.codes else []
        for code, value in options:
            set_option = f"Set-DhcpServerv4OptionValue -PolicyName {name} -OptionId {code}"
            lines.append(f"{set_option} -Value {single_quoted(value)}")
    return "\n".join(lines) + "\n"


def _colons(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).hex(":")
