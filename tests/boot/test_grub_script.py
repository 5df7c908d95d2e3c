# SPDX-License-Identifier: Apache-2.0
"""Configurations for GRUB: what each machine is told to do, and that GRUB's own parser takes it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from tests.boot.conftest import a_context

from dpd.boot import grub_script
from dpd.boot.image_record import BootImage, Kind

LINUX = BootImage(
    "LAB1", 3, Kind.LINUX, "x64", "vmlinuz-6", ("vmlinuz", "initrd.img", "initrd-1.img"), 9, 0.0,
    command_line='quiet  url=http://{server}:{http_port}/x mac={mac} $keep it\'s "a b=c d" e="f g"',
)  # fmt: skip
HOSTILE = "'; reboot; echo ${pager} $(x) \\ \" }"
SCRIPTS = {
    "boot": grub_script.boot(LINUX, a_context(target_url="https://192.0.2.1:8443", proof="00ff")),
    "boot without initrd": grub_script.boot(replace(LINUX, files=("vmlinuz",)), a_context()),
    "prompt": grub_script.prompt(replace(LINUX, description=HOSTILE), a_context(message=HOSTILE)),
    "wait": grub_script.wait(a_context(message=HOSTILE, code="K7Q2")),
    "abort": grub_script.abort(a_context(message=HOSTILE)),
}


def test_linux_gets_the_words_of_its_command_line_where_to_ask_for_a_sequence_and_by_what_proof() -> None:
    (kernel,) = [line for line in SCRIPTS["boot"].splitlines() if "linux " in line]
    assert kernel == (
        "if linux (tftp,192.0.2.1)/vmlinuz $booted_by 'quiet' 'url=http://192.0.2.1:8080/x' 'mac=52:54:00:12:34:56' '$keep'"
        " 'it'\\''s' 'a b=c d' 'e=f g' 'dpd.server=https://192.0.2.1:8443' 'dpd.proof=00ff';"
        " then if initrd (tftp,192.0.2.1)/initrd.img (tftp,192.0.2.1)/initrd-1.img; then boot; fi; fi"
    )


def test_the_card_that_grub_came_by_is_told_as_pxelinux_does() -> None:
    assert 'set booted_by="BOOTIF=01-$net_default_mac"' in SCRIPTS["boot"]


def test_an_ipv6_server_stands_in_brackets() -> None:
    assert "(tftp,[fd00::1])/vmlinuz " in grub_script.boot(LINUX, a_context(server="fd00::1"))


def test_a_menu_goes_to_the_disk_by_itself() -> None:
    assert "set timeout=30\nset default=local\n" in SCRIPTS["prompt"]
    assert "--id image {" in SCRIPTS["prompt"]


def test_who_waits_sees_its_code_and_reads_again_once_it_need_not_wait() -> None:
    assert "Code K7Q2 52:54:00:12:34:56" in SCRIPTS["wait"]
    assert (
        "while [ -s (tftp,192.0.2.1)/dpd-wait.cfg ]; do sleep 5; done\nconfigfile (tftp,192.0.2.1)/grub.cfg"
        in (SCRIPTS["wait"])
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_words_from_outside_are_words_to_grub(name: str) -> None:
    if shutil.which("grub-script-check") is None:
        pytest.skip("missing: grub-script-check")
    checked = subprocess.run(["grub-script-check"], input=SCRIPTS[name], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(("word", "shell_word"), [("plain", "'plain'"), ("it's", "'it'\\''s'"), ("", "''")])
def test_a_word_is_quoted(word: str, shell_word: str) -> None:
    assert grub_script.quoted(word) == shell_word
