# SPDX-License-Identifier: Apache-2.0
"""DHCPv4 lease servers in their own words; that the servers read and mean them so is shown by tests/interop."""

import json

from dpd.explain.lease_server_choices import choices4
from dpd.explain.lease_servers4 import dnsmasq4, isc4, kea4, quoted, single_quoted, windows4

SERVER = "10.0.0.1"
CHOICES = choices4(SERVER, {"ipxe": "boot.ipxe", "uefi-x64": "ipxe.efi", "uefi-x64-http": "ipxe.efi"}, 8080)
URL = "http://10.0.0.1:8080/boot/ipxe.efi"


def test_dnsmasq() -> None:
    assert dnsmasq4(CHOICES, SERVER).splitlines() == [
        "dhcp-match=set:ipxe,175",
        "dhcp-userclass=set:ipxe,iPXE",
        "dhcp-match=set:uefi-x64,option:client-arch,7",
        "dhcp-match=set:uefi-x64,option:client-arch,9",
        "dhcp-match=set:uefi-x64-http,option:client-arch,16",
        'dhcp-boot=tag:ipxe,"boot.ipxe",10.0.0.1,10.0.0.1',
        'dhcp-boot=tag:!ipxe,tag:uefi-x64,"ipxe.efi",10.0.0.1,10.0.0.1',
        "dhcp-option-force=tag:!ipxe,tag:uefi-x64,60,PXEClient",
        "dhcp-option-force=tag:!ipxe,tag:uefi-x64,43,06:01:08:ff",
        "dhcp-option-force=tag:uefi-x64-http,60,HTTPClient",
        f'dhcp-boot=tag:uefi-x64-http,"{URL}"',
    ]


def test_kea_has_the_boot_file_in_the_header_and_in_option_67() -> None:
    classes = {each["name"]: each for each in json.loads(kea4(CHOICES, SERVER))["client-classes"]}
    assert list(classes) == ["dpd-ipxe", "dpd-uefi-x64", "dpd-uefi-x64-http"]
    firmware = classes["dpd-uefi-x64"]
    assert (firmware["next-server"], firmware["boot-file-name"]) == (SERVER, "ipxe.efi")
    assert {each["name"]: each["data"] for each in firmware["option-data"]} == {
        "boot-file-name": "ipxe.efi",
        "tftp-server-name": SERVER,
        "vendor-class-identifier": "PXEClient",
        "vendor-encapsulated-options": "060108ff",
    }
    http = classes["dpd-uefi-x64-http"]
    assert "next-server" not in http
    assert {each["name"]: each["data"] for each in http["option-data"]} == {
        "boot-file-name": URL,
        "vendor-class-identifier": "HTTPClient",
    }


def test_kea_reads_commas_and_backslashes_of_an_option_as_its_own() -> None:
    (only,) = json.loads(kea4(choices4(SERVER, {"bios": "a\\b,c"}, 80), SERVER))["client-classes"]
    assert only["boot-file-name"] == "a\\b,c"
    assert only["option-data"][0]["data"] == "a\\\\b\\,c"


def test_isc_has_a_class_for_pxe_and_one_for_http() -> None:
    text = isc4(CHOICES, SERVER)
    assert text.count('class "dpd-') == 2
    assert text.count("{") == text.count("}")
    assert '  if exists dpd-ipxe or option user-class = "iPXE" {\n    filename "boot.ipxe";' in text
    assert "  elsif option dpd-client-arch = 00:07 or option dpd-client-arch = 00:09 {" in text
    assert f'option bootfile-name "{URL}";' in text


def test_isc_without_http_boot_has_no_class_for_it() -> None:
    assert "HTTPClient" not in isc4(CHOICES[:2], SERVER)
    assert "PXEClient" not in isc4(CHOICES[2:], SERVER)


def test_windows_policies_tell_vendor_classes_apart_and_ipxe_comes_first() -> None:
    lines = windows4(CHOICES, SERVER).splitlines()
    assert lines[2].endswith("-UserClass EQ,'dpd ipxe' -ProcessingOrder 1")
    assert "Add-DhcpServerv4Class -Name 'dpd uefi-x64 9' -Type Vendor -Data 'PXEClient:Arch:00009'" in lines
    policy = "-Condition OR -VendorClass EQ,'dpd uefi-x64 7*','dpd uefi-x64 9*'"
    assert f"Add-DhcpServerv4Policy -Name 'dpd uefi-x64' {policy}" in lines
    assert f"Set-DhcpServerv4OptionValue -PolicyName 'dpd uefi-x64-http' -OptionId 67 -Value '{URL}'" in lines
    assert not any("'dpd uefi-x64-http' -OptionId 66" in line for line in lines)


def test_quotes_end_where_they_should() -> None:
    assert quoted('a\\b"c') == '"a\\\\b\\"c"'
    assert single_quoted("it's") == "'it''s'"
