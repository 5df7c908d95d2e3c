# SPDX-License-Identifier: Apache-2.0
"""Scripts for iPXE: what each machine is told to do."""

from __future__ import annotations

import pytest
from tests.boot.conftest import a_context

from dpd.boot import ipxe_script
from dpd.boot.image_record import BootImage, Kind

LINUX = BootImage(
    "LAB1", 3, Kind.LINUX, "x64", "vmlinuz-6", ("vmlinuz", "initrd.img", "initrd-1.img"), 9, 0.0,
    command_line="quiet  url=http://{server}:{http_port}/x mac={mac} $keep",
)  # fmt: skip
WINPE = BootImage(
    "LAB2", 1, Kind.WINPE, "x64", "boot.wim", ("boot.wim", "bootmgr.exe"), 9, 0.0, description="WinPE x64"
)
EFI = BootImage("LAB3", 1, Kind.EFI, "x64", "tool.efi", ("tool.efi",), 9, 0.0)


def lines_of(script: str) -> list[str]:
    first, *lines = script.splitlines()
    assert first == "#!ipxe"
    assert script.endswith("\n")
    return lines


def test_linux_gets_kernel_initrds_in_order_and_the_filled_in_command_line() -> None:
    lines = lines_of(ipxe_script.boot(LINUX, a_context()))
    assert lines[:4] == [
        "kernel http://192.0.2.1:8080/boot/vmlinuz initrd=initrd.img initrd=initrd-1.img quiet"
        " url=http://192.0.2.1:8080/x mac=52:54:00:12:34:56 $keep || goto failed",
        "initrd --name initrd.img http://192.0.2.1:8080/boot/initrd.img || goto failed",
        "initrd --name initrd-1.img http://192.0.2.1:8080/boot/initrd-1.img || goto failed",
        "boot || goto failed",
    ]
    assert ":failed" in lines


def test_the_command_line_tells_where_to_ask_for_a_sequence_and_by_what_proof() -> None:
    context = a_context(target_url="https://192.0.2.1:8443", proof="00ff")
    (kernel,) = [line for line in lines_of(ipxe_script.boot(LINUX, context)) if line.startswith("kernel ")]
    assert kernel.endswith(" dpd.server=https://192.0.2.1:8443 dpd.proof=00ff || goto failed")


@pytest.mark.parametrize(
    ("mode", "end"), [("none", "$keep"), ("pending", "dpd.affinity=pending"), ("auto", "dpd.affinity=auto")]
)
def test_linux_is_told_what_becomes_of_its_user(mode: str, end: str) -> None:
    lines = lines_of(ipxe_script.boot(LINUX, a_context(affinity_mode=mode)))
    assert lines[0].endswith(f" {end} || goto failed")


def test_an_ipv6_server_stands_in_brackets_and_without_http_tftp_serves() -> None:
    script = ipxe_script.boot(EFI, a_context(server="fd00::1"))
    assert "chain --autofree http://[fd00::1]:8080/boot/tool.efi || goto failed" in script
    assert "chain --autofree tftp://[fd00::1]/tool.efi" in ipxe_script.boot(
        EFI, a_context(server="fd00::1", http_port=0)
    )


def test_windows_goes_by_wimboot_where_there_is_one() -> None:
    lines = lines_of(ipxe_script.boot(WINPE, a_context(), has_wimboot=True))
    base = "http://192.0.2.1:8080/boot"
    assert lines[:5] == [
        f"kernel {base}/wimboot || goto failed",
        f"initrd --name BCD {base}/BCD BCD || goto failed",
        f"initrd --name boot.sdi {base}/boot.sdi boot.sdi || goto failed",
        f"initrd --name boot.wim {base}/boot.wim boot.wim || goto failed",
        "boot || goto failed",
    ]


@pytest.mark.parametrize(("arch", "loader"), [("bios", "pxeboot.n12"), ("uefi-x64", "bootmgfw.efi")])
def test_without_wimboot_windows_goes_by_its_own_loader(arch: str, loader: str) -> None:
    assert f"chain --autofree tftp://192.0.2.1/{loader} || goto failed" in ipxe_script.boot(WINPE, a_context(arch))


def test_an_available_image_is_a_choice_and_the_disk_is_what_silence_means() -> None:
    lines = lines_of(ipxe_script.prompt(WINPE, a_context(outcome="prompt"), has_wimboot=True))
    assert "item image WinPE x64" in lines
    assert "choose --default local --timeout 30000 target || set target local" in lines
    image, local = lines.index(":image"), lines.index(":local")
    assert lines.index("goto ${target}") < image < lines.index("boot || goto failed") < local
    assert lines[local - 1] == "exit 1"  # a failed boot does not run on into anything


def test_who_waits_sees_the_code_and_asks_again() -> None:
    lines = lines_of(ipxe_script.wait(a_context(outcome="wait", code="K7Q2", message="Waiting for approval.")))
    assert "echo Code K7Q2 52:54:00:12:34:56" in " ".join(lines).replace("  ", " ")
    assert lines[-2:] == [
        "sleep 5",
        "chain --replace --autofree http://192.0.2.1:8080/boot/boot.ipxe || autoboot",
    ]


def test_the_pin_goes_where_it_is_checked() -> None:
    lines = lines_of(ipxe_script.ask_pin(a_context(outcome="wait")))
    assert lines[-2:] == [
        "read pin",
        "chain --replace --autofree http://192.0.2.1:8080/boot/pin?pin=${pin:uristring} || autoboot",
    ]


def test_abort_goes_on_to_the_next_boot_device() -> None:
    lines = lines_of(ipxe_script.abort(a_context(outcome="abort", message="Nothing is deployed.")))
    assert lines[0] == "echo Nothing is deployed."
    assert lines[-1] == "iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 || exit"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\nboot evil", "a?boot evil"),
        ("a || boot", "a - boot"),
        ("x && y ; z # w", "x - y - z - w"),
        ("${net0/mac}", "$ {net0/mac}"),
        ("Zürich", "Z?rich"),
        ("a\r\n#!ipxe", "a??#!ipxe"),
    ],
)
def test_text_from_outside_stays_text(given: str, shown: str) -> None:
    assert ipxe_script.text(given) == shown
    script = ipxe_script.wait(a_context(outcome="wait", message=given))
    assert len(script.splitlines()) == len(ipxe_script.wait(a_context(outcome="wait")).splitlines())
