# SPDX-License-Identifier: Apache-2.0
"""DHCPv6 lease servers in their own words; that the servers read and mean them so is shown by tests/interop."""

import json

from dpd.explain.lease_server_choices import choices6
from dpd.explain.lease_servers6 import ANSWERING_CLASS, dnsmasq6, isc6, kea6, windows6

CHOICES = choices6("fd00::1", {"ipxe": "boot.ipxe", "uefi-x64": "ipxe.efi", "uefi-x64-http": "ipxe.efi"}, 8080)
URL = "http://[fd00::1]:8080/boot/ipxe.efi"


def test_http_boot_wants_sixteen_bytes_of_vendor_class() -> None:
    assert ANSWERING_CLASS == b"\0\0\x01\x57\0\x0aHTTPClient"
    assert len(ANSWERING_CLASS) == 16


def test_dnsmasq() -> None:
    assert dnsmasq6(CHOICES).splitlines() == [
        "dhcp-userclass=set:ipxe-v6,iPXE",
        "dhcp-vendorclass=set:uefi-x64-v6,enterprise:343,PXEClient:Arch:00007",
        "dhcp-vendorclass=set:uefi-x64-v6,enterprise:343,PXEClient:Arch:00009",
        "dhcp-vendorclass=set:uefi-x64-http-v6,enterprise:343,HTTPClient:Arch:00016",
        'dhcp-option=tag:ipxe-v6,option6:bootfile-url,"tftp://[fd00::1]/boot.ipxe"',
        'dhcp-option=tag:!ipxe-v6,tag:uefi-x64-v6,option6:bootfile-url,"tftp://[fd00::1]/ipxe.efi"',
        f'dhcp-option=tag:uefi-x64-http-v6,option6:bootfile-url,"{URL}"',
        "dhcp-option=tag:uefi-x64-http-v6,option6:16,UEFIHTTPClient",
    ]


def test_kea() -> None:
    classes = json.loads(kea6(CHOICES))["client-classes"]
    assert [each["name"] for each in classes] == ["dpd-ipxe", "dpd-uefi-x64", "dpd-uefi-x64-http"]
    assert [each["option-data"][0]["data"] for each in classes] == [
        "tftp://[fd00::1]/boot.ipxe",
        "tftp://[fd00::1]/ipxe.efi",
        URL,
    ]
    assert classes[2]["option-data"][1]["data"] == ANSWERING_CLASS.hex().upper()


def test_isc() -> None:
    text = isc6(CHOICES)
    assert text.count("{") == text.count("}") == 3
    assert text.index("iPXE") < text.index("00:07") < text.index("00:10")
    assert f'option dhcp6.bootfile-url "{URL}";' in text


def test_windows_has_one_loader_for_all() -> None:
    assert windows6(CHOICES).count("OptionValue") == 1
    assert "'tftp://[fd00::1]/ipxe.efi'" in windows6(CHOICES)
    assert windows6(CHOICES[2:]).startswith("# no PXE loader")
