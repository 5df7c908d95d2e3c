# SPDX-License-Identifier: Apache-2.0
"""Scripts for iPXE, made for one machine: boot this image, ask first, wait for approval, go on to the disk.

iPXE knows no quotes: it expands `${…}`, splits at blanks and ends a command at `||`, `&&`, `;` and `#`. So text from
outside is stripped of those, and paths are percent-encoded. Nothing in a script is secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from dpd.boot.image_record import FORBIDDEN_WORDS, BootImage, Kind
from dpd.boot.names import SCRIPT_NAME
from dpd.boot.tree import BootContext

ASK_AGAIN_S = 5
FAILED_S = 15
PROMPT_S = 30
WIMBOOT = {"x64": "wimboot", "x86": "wimboot", "arm64": "wimboot.arm64"}  # as its releases name them
# Windows' own loaders: those of UEFI, unless the firmware is named here.
NATIVE_LOADER = {"bios": "pxeboot.n12"}
UEFI_LOADER = "bootmgfw.efi"
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def boot(image: BootImage, context: BootContext, *, has_wimboot: bool = False) -> str:
    """Boot the image at once."""
    return _script(_boot_lines(image, context, has_wimboot))


def prompt(image: BootImage, context: BootContext, *, has_wimboot: bool = False) -> str:
    """A menu of the image and the disk; the disk where nobody answers."""
    title = text(image.description or image.image_id)
    return _script(
        [
            f"menu {text(context.message) or 'Operating system deployment'}",
            f"item image {title}",
            "item local Boot from disk",
            f"choose --default local --timeout {PROMPT_S * 1000} target || set target local",
            "goto ${target}",
            ":image",
            *_boot_lines(image, context, has_wimboot),
            ":local",
            *_local_lines(),
        ]
    )


def wait(context: BootContext) -> str:
    """Show the code, and ask again until somebody has approved the machine or the ticket has run out."""
    return _script(
        [
            "echo",
            f"echo {text(context.message) or 'This computer waits for approval.'}",
            f"echo Code {text(context.code)}  {text(context.mac)}",
            f"sleep {ASK_AGAIN_S}",
            f"chain --replace --autofree {url(context, SCRIPT_NAME)} || autoboot",
        ]
    )


def ask_pin(context: BootContext) -> str:
    """Ask for the PIN, and go on with what the answer to it is: this again, or the image."""
    return _script(
        [
            "echo",
            f"echo {text(context.message) or 'This computer needs a PIN.'}",
            "clear pin",
            "echo -n PIN:",
            "read pin",
            f"chain --replace --autofree {url(context, 'pin')}?pin=${{pin:uristring}} || autoboot",
        ]
    )


def abort(context: BootContext) -> str:
    """Nothing to do here: the next boot device."""
    return _script([*([f"echo {text(context.message)}"] if context.message else []), *_local_lines()])


def url(context: BootContext, name: str) -> str:
    """Where the machine gets a file of its tree: by HTTP, or by TFTP where HTTP is off."""
    path = quote(name)
    if context.http_port:
        return f"http://{context.host}:{context.http_port}/boot/{path}"
    return f"tftp://{context.host}/{path}"


def text(value: str) -> str:
    """A value that no script takes for anything but words."""
    words = _UNPRINTABLE.sub("?", value).replace("${", "$ {").split()
    return " ".join("-" if word in FORBIDDEN_WORDS else word for word in words)


def _script(lines: list[str]) -> str:
    return "\n".join(["#!ipxe", *lines, ""])


def _boot_lines(image: BootImage, context: BootContext, has_wimboot: bool) -> list[str]:
    lines = {Kind.LINUX: _linux_lines, Kind.EFI: _efi_lines, Kind.WINPE: _winpe_lines}[image.kind]
    return [
        *lines(image, context, has_wimboot),
        ":failed",
        f"echo {text(str(image))} cannot be booted; next boot device in {FAILED_S} s",
        f"sleep {FAILED_S}",
        "exit 1",
    ]


def _linux_lines(image: BootImage, context: BootContext, _: bool) -> list[str]:
    """The kernel's EFI stub looks for the initrds by name, so the command line says them; a BIOS ignores that."""
    kernel, *initrds = image.files
    names = " ".join(f"initrd={name}" for name in initrds)
    arguments = [*f"{names} {fill_in(image.command_line, context)}".split(), *context.boot_variables]
    return [
        " ".join(["kernel", url(context, kernel), *arguments, "|| goto failed"]),
        *(f"initrd --name {name} {url(context, name)} || goto failed" for name in initrds),
        "boot || goto failed",
    ]


def _efi_lines(image: BootImage, context: BootContext, _: bool) -> list[str]:
    return [f"chain --autofree {url(context, image.files[0])} || goto failed", "exit"]


def _winpe_lines(image: BootImage, context: BootContext, has_wimboot: bool) -> list[str]:
    if not has_wimboot:
        loader = NATIVE_LOADER.get(context.arch, UEFI_LOADER)
        return [f"chain --autofree tftp://{context.host}/{loader} || goto failed", "exit"]
    return [f"kernel {url(context, WIMBOOT[image.architecture])} || goto failed", *_wim_lines(context)]


def _wim_lines(context: BootContext) -> Iterator[str]:
    """wimboot takes the loader and the fonts out of the WIM; its names know no folders."""
    for name in ("BCD", "boot.sdi", "boot.wim"):
        yield f"initrd --name {name} {url(context, name)} {name} || goto failed"
    yield "boot || goto failed"


def _local_lines() -> list[str]:
    """A BIOS is asked for its first disk, since some only start over when a network boot ends; others have a list of boot
    devices to go on with."""
    return ["iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 || exit"]


def fill_in(command_line: str, context: BootContext) -> str:
    """The command line with what is known of the machine and of us in place of {server} and the like."""
    known = {"server": context.host, "http_port": context.http_port, "mac": context.mac, "guid": context.guid}
    for name, value in known.items():
        command_line = command_line.replace(f"{{{name}}}", text(str(value)))
    return command_line
