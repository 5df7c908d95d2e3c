# SPDX-License-Identifier: Apache-2.0
"""Configurations for GRUB, made for one machine: what its iPXE script says, for machines that Secure Boot keeps from iPXE.

GRUB reads them as a shell does, so each word from outside stands in single quotes. Kernel and initrds come by TFTP: the GRUBs that
distributions sign know nothing else (Debian 12's has no http, and may load no module that is not inside).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dpd.boot import ipxe_script
from dpd.boot.image_record import BootImage
from dpd.boot.names import GRUB_CONFIGURATION, GRUB_WAITING
from dpd.boot.tree import BootContext

_WORD = re.compile(r'(?:"[^"]*"?|[^\s"])+')


def boot(image: BootImage, context: BootContext) -> str:
    """Boot the image at once."""
    return _script(_boot_lines(image, context))


def prompt(image: BootImage, context: BootContext) -> str:
    """A menu of the image and the disk; the disk where nobody answers."""
    return _script(
        [
            f"set timeout={ipxe_script.PROMPT_S}",
            "set default=local",
            f"menuentry {quoted(ipxe_script.text(image.description or image.image_id))} --id image {{",
            *_boot_lines(image, context),
            "}",
            "menuentry 'Boot from disk' --id local {",
            *_local_lines(),
            "}",
        ]
    )


def wait(context: BootContext) -> str:
    """Show the code for as long as dpd says to wait, then read what there is to do, if there is something. A PIN is not asked for:
    whoever reads over GRUB's shoulder reads its network, too, and an iPXE does it."""
    place = f"(tftp,{context.host})/"
    return _script(
        [
            *_told(context.message or "This computer waits for approval."),
            *_told(f"Code {context.code} {context.mac}"),
            f"while [ -s {place}{GRUB_WAITING} ]; do sleep {ipxe_script.ASK_AGAIN_S}; done",
            f"configfile {place}{GRUB_CONFIGURATION}",
            *_local_lines(),
        ]
    )


def abort(context: BootContext) -> str:
    """Nothing to do here."""
    return _script([*_told(context.message), *_local_lines()])


def quoted(word: str) -> str:
    """As one word of a script, whatever is in it."""
    return "'" + word.replace("'", "'\\''") + "'"


def _boot_lines(image: BootImage, context: BootContext) -> list[str]:
    kernel, *initrds = (f"(tftp,{context.host})/{name}" for name in image.files)
    line = ipxe_script.fill_in(image.command_line, context)
    arguments = " ".join(map(quoted, (*words(line), *context.boot_variables)))
    boot = f"if initrd {' '.join(initrds)}; then boot; fi" if initrds else "boot"
    return [
        "set booted_by=",
        'if [ -n "$net_default_mac" ]; then set booted_by="BOOTIF=01-$net_default_mac"; fi',
        f"if linux {kernel} $booted_by {arguments}; then {boot}; fi",
        *_told(f"{image} cannot be booted; restart in {ipxe_script.FAILED_S} s"),
        f"sleep {ipxe_script.FAILED_S}",
        *_local_lines(),
    ]


def words(command_line: str) -> list[str]:
    """The words of a kernel's command line: GRUB puts the quotes that a word with blanks needs around it by itself."""
    return [word.replace('"', "") for word in _WORD.findall(command_line)]


def _local_lines() -> list[str]:
    """What GRUB leaves with is a success to UEFI, which then shows its setup menu in place of the next boot device. So the machine
    starts anew: dpd's answer to its next question sends it on to its disk."""
    return ["reboot"]


def _told(message: str) -> list[str]:
    return [f"echo {quoted(ipxe_script.text(message))}"] if message else []


def _script(lines: Iterable[str]) -> str:
    return "\n".join(["# Made by dpd for one machine and one boot.", *lines, ""])
