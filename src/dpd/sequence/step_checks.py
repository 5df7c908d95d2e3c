# SPDX-License-Identifier: Apache-2.0
"""What a step must say to be done at all, each looked at by itself: what no rule of a single key can tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from dpd.sequence.records import Step, StepKind, Value
from dpd.sequence.sizes import Share, parse_share
from dpd.sequence.variables import MAX_VALUE_CHARACTERS, uses

Found = Iterator[tuple[str, str]]  # the key, and what is wrong with it

MAX_MBR_PARTITIONS = 4
_MODE = re.compile(r"[0-7]{3,4}")
_NEEDED_FORMATS: Final = {"esp": ("fat32",), "swap": ("swap",), "bios-boot": ("none",), "msr": ("none",)}


def check_step(step: Step) -> Found:
    """Everything that is wrong with it."""
    check = _CHECKS.get(step.kind)
    if check is not None:
        yield from check(step)
    for key in _INSIDE.get(step.kind, ()):
        if ".." in step.text(key).split("/"):
            yield key, f'"{step.text(key)}" leads out of its place; expected a path without ..'


def _check_partitions(step: Step) -> Found:
    partitions = step.tables("partitions")
    for name, count in Counter(str(each["name"]).lower() for each in partitions).items():
        if count > 1:
            yield "partitions", f'{count} are called "{name}"; expected names of their own'
    for each in partitions:
        yield from _check_partition(each)
    if step.text("table") == "mbr":
        if len(partitions) > MAX_MBR_PARTITIONS:
            yield "partitions", f"{len(partitions)}, expected at most {MAX_MBR_PARTITIONS} in an MBR; take table = gpt"
        for kind in {str(each["kind"]) for each in partitions} & {"bios-boot", "msr"}:
            yield "partitions", f'kind "{kind}" is of GPT alone; leave it out, or take table = "gpt"'
    yield from _check_shares([parse_share(size) for each in partitions if not uses(size := str(each["size"]))])


def _check_partition(partition: Mapping[str, Value]) -> Found:
    name, kind, made = str(partition["name"]), str(partition["kind"]), str(partition["format"])
    needed = _NEEDED_FORMATS.get(kind)
    if needed and made not in needed:
        yield "partitions", f'"{name}": format "{made}" for a partition of kind "{kind}"; expected "{needed[0]}"'
    if made == "swap" and kind != "swap":
        yield "partitions", f'"{name}": format "swap" for a partition of kind "{kind}"; expected kind = "swap"'
    if "%" in name or "/" in name:
        yield "partitions", f'"{name}": expected a name without % and /'


def _check_shares(shares: list[Share]) -> Found:
    if (rests := sum(each.is_rest for each in shares)) > 1:
        yield "partitions", f'{rests} have the size "rest"; expected one at most'
    if (percent := sum(each.percent for each in shares)) > 100:
        yield "partitions", f"{percent} % of the disk together, expected at most 100"


def _check_script(step: Step) -> Found:
    script, package = step.text("script"), step.text("package")
    if bool(script) == bool(package):
        yield "script", "expected either a script, or a package and the file in it"
    if bool(package) != bool(step.text("file")):
        yield "file", "expected package and file, or neither"


def _check_configuration(step: Step) -> Found:
    form = step.text("format")
    needed, unused = ("user_data", ("text",)) if form == "cloud-init" else ("text", _OF_CLOUD_INIT)
    if not step.text(needed):
        yield needed, f'missing: expected with format = "{form}"'
    for key in unused:
        if step.text(key):
            yield key, f'of no use with format = "{form}"; expected {needed}'
    if form == "file" and not step.text("path"):
        yield "path", 'missing: expected with format = "file", such as "etc/hostname"'
    if not _MODE.fullmatch(step.text("mode")):
        yield "mode", f'"{step.text("mode")}": expected octal digits such as "0644"'


_OF_CLOUD_INIT: Final = ("user_data", "meta_data", "network_config")


def _check_boot_loader(step: Step) -> Found:
    method, source = step.text("method"), step.text("source")
    if method == "copy" and not source:
        yield "source", 'missing: expected with method = "copy", such as "usr/lib/shim/shimx64.efi.signed"'
    if method == "grub-install" and source:
        yield "source", 'of no use with method = "grub-install"; leave it out, or take method = "copy"'
    if source and not step.text("esp"):
        yield "esp", "missing: expected the EFI system partition that the loader is copied to"


def _check_readiness(step: Step) -> Found:
    asked = ("minimum_ram", "minimum_disk", "minimum_cpus", "architectures", "firmware", "is_wired", "on_ac_power")
    if not any(step.keys[key] for key in asked):
        yield "", f"checks nothing; expected one of {', '.join(asked)}"


def _check_applying(step: Step) -> Found:
    if step.text("stream") == "always":
        for key in ("multicast", "content_volume", "keep"):
            if step.keys.get(key):
                yield key, 'stream = "always" makes no local copy and takes HTTP; leave out one of them'


def _check_value(step: Step) -> Found:
    value = step.text("value")
    if len(value) > MAX_VALUE_CHARACTERS and not uses(value):
        yield (
            "value",
            f"{len(value)} characters, expected at most {MAX_VALUE_CHARACTERS} in a variable; write a file by a step instead",
        )


_INSIDE: Final[dict[StepKind, tuple[str, ...]]] = {  # paths that are below a partition's root, or in a package
    StepKind.APPLY_DATA_IMAGE: ("folder",),
    StepKind.APPLY_DRIVER_PACKAGE: ("folder",),
    StepKind.WRITE_CONFIGURATION: ("path",),
    StepKind.INSTALL_BOOT_LOADER: ("source",),
    StepKind.RUN_SCRIPT: ("file",),
}
_CHECKS: Final[dict[StepKind, Callable[[Step], Found]]] = {
    StepKind.PARTITION_DISK: _check_partitions,
    StepKind.APPLY_OS_IMAGE: _check_applying,
    StepKind.APPLY_DATA_IMAGE: _check_applying,
    StepKind.SET_VARIABLE: _check_value,
    StepKind.RUN_SCRIPT: _check_script,
    StepKind.WRITE_CONFIGURATION: _check_configuration,
    StepKind.INSTALL_BOOT_LOADER: _check_boot_loader,
    StepKind.CHECK_READINESS: _check_readiness,
}
