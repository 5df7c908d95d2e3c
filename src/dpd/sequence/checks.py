# SPDX-License-Identifier: Apache-2.0
"""What publishing refuses: sequences that would fail at every machine, or leave it unable to start. Steps that are not enabled
count for nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from dpd.sequence.package_checks import Look, check_package
from dpd.sequence.records import (
    Architecture,
    ArchitectureCondition,
    Condition,
    Conditions,
    Firmware,
    Group,
    HardwareCondition,
    HardwareFact,
    Operator,
    PathCondition,
    SequenceProblem,
    Several,
    Step,
    StepKind,
    TaskSequence,
    Value,
    VariableCondition,
    enabled,
)
from dpd.sequence.step_checks import check_step
from dpd.sequence.variables import BUILT_IN, uses

_C = TypeVar("_C", PathCondition, VariableCondition)

_APPLIES_OS: Final = frozenset({"ntfs", "ext4", "btrfs"})
_RECEIVES: Final = frozenset({StepKind.DOWNLOAD_CONTENT, StepKind.JOIN_MULTICAST})
_APPLIES: Final = frozenset({StepKind.APPLY_OS_IMAGE, StepKind.APPLY_DATA_IMAGE, StepKind.APPLY_DRIVER_PACKAGE})
_BOOT_LOADERS: Final = re.compile(r"grub-install|bcdboot|bootctl|efibootmgr|extlinux|zipl", re.IGNORECASE)


def check_sequence(sequence: TaskSequence, look: Look | None) -> tuple[SequenceProblem, ...]:
    """Everything that is wrong with it, in the order of its lines. Without a library to look into packages are taken to be right."""
    found = [
        *_check_each(sequence, look),
        *_check_volumes(sequence),
        *_check_paths(sequence),
        *_check_variables(sequence),
        *_check_order(sequence),
        *_check_conditions(sequence),
    ]
    return tuple(sorted(found, key=lambda each: each.line))


def wanted_variables(sequence: TaskSequence) -> tuple[str, ...]:
    """The names that it uses and neither sets nor knows: computers, collections or the run must have them. Sorted."""
    known = {name.lower() for name in (*BUILT_IN, *(name for name, _ in sequence.variables))}
    for step in sequence.steps():
        names = (step.keys.get(key) for key in ("variable", "output_variable"))
        known |= {str(name).lower() for name in names if name}
    texts = (each for member in sequence.walk() for each in _texts_of(member))
    found = {name.lower(): name for text in texts for name in uses(text)}
    return tuple(sorted(found[each] for each in found.keys() - known))


def _problem(member: Group | Step, key: str, message: str) -> SequenceProblem:
    place = f"step {member.id} ({member.name})"
    return SequenceProblem(member.lines.get(key, member.line), f"{place}: {key}" if key else place, message)


# ---- each step by itself


def _check_each(sequence: TaskSequence, look: Look | None) -> Iterator[SequenceProblem]:
    steps = sequence.enabled_steps()
    if not steps:
        yield SequenceProblem(1, "", "no step is enabled; expected one that is")
    for step in steps:
        for key, message in check_step(step):
            yield _problem(step, key, message)
        if step.time_limit_s > sequence.time_limit_s:
            message = f"{step.time_limit_s} is more than the {sequence.time_limit_s} that the whole run may take"
            yield _problem(step, "time_limit_s", f"{message}; raise that one, or lower this")
        for key, message in check_package(step, sequence.architectures, look) if look else ():
            yield _problem(step, key, message)


# ---- volumes


def _check_volumes(sequence: TaskSequence) -> Iterator[SequenceProblem]:
    """A partition is there once a step has made it, and takes what its file system can."""
    made: dict[str, Mapping[str, Value]] = {}
    steps = sequence.enabled_steps()
    ever = {str(each["name"]).lower() for step in steps for each in _partitions(step)}
    for step in steps:
        made |= {str(each["name"]).lower(): each for each in _partitions(step)}
        for key in ("volume", "esp", "resume_volume", "content_volume"):
            volume = str(step.keys.get(key, ""))
            if not volume or "%" in volume or volume.startswith("/dev/"):
                continue
            partition = made.get(volume.lower())
            if partition is None:
                yield _problem(step, key, _unknown_volume(volume, volume.lower() in ever, made))
            elif wrong := _cannot_take(step, key, volume, partition):
                yield _problem(step, key, wrong)


def _partitions(step: Step) -> tuple[Mapping[str, Value], ...]:
    return step.tables("partitions") if step.kind is StepKind.PARTITION_DISK else ()


def _unknown_volume(volume: str, is_made_later: bool, made: Mapping[str, object]) -> str:
    if is_made_later:
        return f'"{volume}" is made by a later step; move that one before'
    known = ", ".join(made) or "none yet"
    return f'"{volume}": no step makes a partition of this name (those made: {known}); expected one of them, or a device such as /dev/sda2'


def _cannot_take(step: Step, key: str, volume: str, partition: Mapping[str, Value]) -> str:
    made, kind = str(partition["format"]), str(partition["kind"])
    if key == "esp":
        return "" if kind == "esp" else f'"{volume}" is of kind "{kind}"; expected the one of kind "esp"'
    applies_os = step.kind is StepKind.APPLY_OS_IMAGE
    if applies_os and key == "content_volume" and made == "ntfs" and volume.lower() == step.text("volume").lower():
        return f'"{volume}" is written as a whole, being ntfs; expected another partition, or none: one with room is taken then'
    if applies_os and key == "volume" and made not in _APPLIES_OS:
        return f'"{volume}" has the format "{made}"; expected ntfs, ext4 or btrfs for an operating system'
    return f'"{volume}" has no file system; expected one with a format' if made in ("none", "swap") else ""


def _check_paths(sequence: TaskSequence) -> Iterator[SequenceProblem]:
    """The partition of a condition's path, which is judged before the member that it is of."""
    made: dict[str, Mapping[str, Value]] = {}
    ever = {str(each["name"]).lower() for step in sequence.enabled_steps() for each in _partitions(step)}
    for member in enabled(sequence.members):
        for path in _of_kind(PathCondition, member.condition):
            volume, colon, _ = path.path.partition(":")
            if colon and "/" not in volume and "%" not in volume and volume.lower() not in made:
                yield _problem(member, "condition", _unknown_volume(volume, volume.lower() in ever, made))
        if isinstance(member, Step):
            made |= {str(each["name"]).lower(): each for each in _partitions(member)}


# ---- variables


def _check_variables(sequence: TaskSequence) -> Iterator[SequenceProblem]:
    """A read-only name that the engine does not set is one that nobody may."""
    known = {name.lower() for name in BUILT_IN}
    for member in enabled(sequence.members):
        names = [name for text in _texts_of(member) for name in uses(text)]
        names += [each.name for each in _of_kind(VariableCondition, member.condition)]
        for name in {name.lower(): name for name in names if name.startswith("_")}.values():
            if name.lower() not in known:
                message = f"{name}: no such variable, and names that begin with _ are read-only"
                yield _problem(member, "", f"{message}; expected one of {', '.join(BUILT_IN)}")


# ---- order


def _check_order(sequence: TaskSequence) -> Iterator[SequenceProblem]:
    steps = sequence.enabled_steps()
    yield from _check_restarts(sequence, steps)
    yield from _check_boot_loader(sequence, steps)
    yield from _check_restarts_inside(steps)


def _check_restarts(sequence: TaskSequence, steps: Sequence[Step]) -> Iterator[SequenceProblem]:
    """A run goes on behind a restart from the disk alone, where a step has put who goes on."""
    last = steps[-1] if steps else None
    for step in steps:
        resumes = step.kind is StepKind.RESTART and bool(step.text("resume_volume"))
        if step.kind is not StepKind.RESTART or (step is last and not resumes):
            continue
        if step.text("to") != "disk":
            message = (
                'a run goes on from its disk alone; expected to = "disk" and a resume_volume, or this as the last step'
            )
            yield _problem(step, "to", message)
        elif not resumes:
            behind = steps[steps.index(step) + 1]
            message = f"step {behind.id} ({behind.name}) is never reached: nobody goes on there after this restart"
            yield _problem(step, "resume_volume", f"{message}; give it a resume_volume, or make it the last step")


def _check_boot_loader(sequence: TaskSequence, steps: Sequence[Step]) -> Iterator[SequenceProblem]:
    """A system that was applied needs one before the disk is started, whether a step restarts or the run ends; what is on a
    partition of data is none."""
    data = {str(each["name"]).lower() for step in steps for each in _partitions(step) if each["kind"] == "data"}
    for at, step in enumerate(steps):
        if step.kind is not StepKind.APPLY_OS_IMAGE or step.text("volume").lower() in data:
            continue
        ends = [place for place, each in enumerate(steps) if place > at and _starts_disk(each)]
        until = ends[0] if ends else len(steps)
        if not any(map(_makes_bootable, steps[at:until])):
            where = f"before step {steps[until].id} ({steps[until].name}) restarts from disk" if ends else "behind it"
            yield _problem(step, "", f"missing boot loader: expected a step install_boot_loader {where}")
    for step in steps:
        if step.kind is StepKind.INSTALL_BOOT_LOADER:
            yield from _check_firmware(sequence, steps, step)


def _check_firmware(sequence: TaskSequence, steps: Sequence[Step], step: Step) -> Iterator[SequenceProblem]:
    if sequence.firmware == (Firmware.UEFI,) and not step.text("esp"):
        yield _problem(step, "esp", "missing: expected the EFI system partition, since the sequence is for UEFI")
    kinds = {str(partition["kind"]) for each in steps for partition in _partitions(each)}
    tables = {each.text("table") for each in steps if each.kind is StepKind.PARTITION_DISK}
    if sequence.firmware == (Firmware.BIOS,) and tables == {"gpt"} and "bios-boot" not in kinds:
        message = "a BIOS starts a GPT disk from a partition of kind bios-boot, and no step makes one"
        yield _problem(step, "", f'{message}; add one of "1MiB", or take table = "mbr"')


def _starts_disk(step: Step) -> bool:
    return step.kind is StepKind.RESTART and step.text("to") == "disk"


def _makes_bootable(step: Step) -> bool:
    """A boot loader, or a command of the operator's own that looks like one; of a script in a package nobody knows."""
    if step.kind in (StepKind.INSTALL_BOOT_LOADER, StepKind.CAPTURE_IMAGE):
        return step.kind is StepKind.INSTALL_BOOT_LOADER
    if step.kind is StepKind.RUN_SCRIPT and step.text("package"):
        return True
    text = {StepKind.RUN_COMMAND_LINE: "command", StepKind.RUN_SCRIPT: "script"}.get(step.kind)
    return text is not None and bool(_BOOT_LOADERS.search(step.text(text)))


def _check_restarts_inside(steps: Sequence[Step]) -> Iterator[SequenceProblem]:
    """What was received into memory does not survive a restart between receiving and applying it."""
    held: dict[str, Step] = {}
    lost: dict[str, tuple[Step, Step]] = {}
    for step in steps:
        package = str(step.keys.get("package", ""))
        if step.kind in _RECEIVES:
            held.pop(package, None)
            lost.pop(package, None)
            if not step.text("volume"):
                held[package] = step
        elif step.kind is StepKind.RESTART:
            lost |= {name: (receiver, step) for name, receiver in held.items()}
            held.clear()
        elif step.kind in _APPLIES and package in lost:
            receiver, restart = lost.pop(package)
            message = (
                f"restarts between step {receiver.id}, which receives {package}, and step {step.id}, which applies it"
            )
            yield _problem(restart, "", f"{message}: what was received may be lost; give step {receiver.id} a volume")
        elif step.kind in _APPLIES:
            held.pop(package, None)


# ---- conditions


def _check_conditions(sequence: TaskSequence) -> Iterator[SequenceProblem]:
    """What can hold on no machine that the sequence is for."""
    architectures = frozenset(sequence.architectures or Architecture)
    firmware = frozenset(sequence.firmware or Firmware)
    for each in enabled(sequence.members):
        left = [
            (architecture, how)
            for architecture in architectures
            for how in firmware
            if _may_hold(each.condition, architecture, how)
        ]
        if not left:
            message = "holds on no machine that the sequence is for, so that this never runs"
            yield _problem(each, "condition", f"{message}; look at architectures and firmware there and here")


def _may_hold(condition: Condition | None, architecture: Architecture, firmware: Firmware) -> bool:
    """Whether it can, of what is not known before the run."""
    return condition is None or _judge(condition, architecture, firmware) is not False


def _judge(condition: Condition, architecture: Architecture, firmware: Firmware) -> bool | None:
    match condition:
        case ArchitectureCondition(architectures):
            return architecture in architectures
        case HardwareCondition(HardwareFact.FIRMWARE, operator, value):
            is_it = firmware == str(value).lower()
            known = {Operator.EQUALS: is_it, Operator.NOT_EQUALS: not is_it, Operator.EXISTS: bool(value)}
            return known.get(operator)
        case Conditions(rule, parts):
            judged = [_judge(each, architecture, firmware) for each in parts]
            if rule is Several.ALL:
                return False if False in judged else None if None in judged else True
            found = True if True in judged else None if None in judged else False
            return found if rule is Several.ANY or found is None else not found
        case HardwareCondition() | PathCondition() | VariableCondition():
            return None


# ---- texts


def _texts_of(member: Group | Step) -> Iterator[str]:
    """Every text of it in which variables are put."""
    yield from _condition_texts(member.condition)
    if isinstance(member, Step):
        for name, value in member.keys.items():
            if name != "script":
                yield from _texts_in(value)


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts_in(each)


def _condition_texts(condition: Condition | None) -> Iterator[str]:
    return (each.path for each in _of_kind(PathCondition, condition))


def _of_kind(kind: type[_C], condition: Condition | None) -> Iterator[_C]:
    """Those of a kind in a condition, however deep."""
    if isinstance(condition, kind):
        yield condition
    elif isinstance(condition, Conditions):
        for each in condition.parts:
            yield from _of_kind(kind, each)
