# SPDX-License-Identifier: Apache-2.0
"""What a lease server is to tell apart, and what it tells each of them."""

from dpd.explain.lease_server_choices import Choice, choices4, choices6

LOADERS = {
    "uefi-x64-http": "http://{server}:{http_port}/boot/ipxe.efi",
    "uefi-arm64-http": "arm64/ipxe.efi",
    "uefi-x64": "ipxe.efi",
    "bios": "undionly.kpxe",
    "ipxe": "boot.ipxe",
    "toaster": "toast",
}


def test_ipxe_comes_first_and_unknown_architectures_not_at_all() -> None:
    """iPXE has the architecture of its firmware, too, and would load itself again."""
    assert [choice.name for choice in choices4("10.0.0.1", LOADERS, 8080)] == [
        "ipxe",
        "bios",
        "uefi-x64",
        "uefi-x64-http",
        "uefi-arm64-http",
    ]


def test_an_architecture_has_all_its_codes() -> None:
    assert choices4("10.0.0.1", {"uefi-x64": "x"}, 80) == [Choice("uefi-x64", (7, 9), "x")]


def test_loaders_as_dhcpv4_has_them() -> None:
    assert {choice.name: choice.loader for choice in choices4("10.0.0.1", LOADERS, 8080)} == {
        "ipxe": "boot.ipxe",
        "bios": "undionly.kpxe",
        "uefi-x64": "ipxe.efi",
        "uefi-x64-http": "http://10.0.0.1:8080/boot/ipxe.efi",
        "uefi-arm64-http": "http://10.0.0.1:8080/boot/arm64/ipxe.efi",
    }


def test_loaders_as_dhcpv6_has_them() -> None:
    """Always a URL; BIOS has no IPv6."""
    assert {choice.name: choice.loader for choice in choices6("fd00::1", LOADERS, 8080)} == {
        "ipxe": "tftp://[fd00::1]/boot.ipxe",
        "uefi-x64": "tftp://[fd00::1]/ipxe.efi",
        "uefi-x64-http": "http://[fd00::1]:8080/boot/ipxe.efi",
        "uefi-arm64-http": "http://[fd00::1]:8080/boot/arm64/ipxe.efi",
    }


def test_the_word_of_the_vendor_class() -> None:
    assert [choice.word for choice in choices6("fd00::1", LOADERS, 80)] == [
        "PXEClient",
        "PXEClient",
        "HTTPClient",
        "HTTPClient",
    ]
