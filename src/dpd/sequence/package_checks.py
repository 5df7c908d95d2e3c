# SPDX-License-Identifier: Apache-2.0
"""Whether the packages that a step names are there, and are what it can take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dpd.sequence.records import Architecture, Step, StepKind

Found = Iterator[tuple[str, str]]  # the key, and what is wrong with it

_APPLIES: Final = frozenset({StepKind.APPLY_OS_IMAGE, StepKind.APPLY_DATA_IMAGE})


@dataclass(frozen=True, slots=True)
class KnownPackage:
    """What the library says of a version. `architectures` are those of a WIM's images in their order, "" where it tells none."""

    is_wim: bool  # in one file
    architectures: tuple[str, ...] = ()


Look = Callable[
    [str, int], KnownPackage | None
]  # a package and its version, 0 for the newest; None where it is missing


def check_package(step: Step, architectures: tuple[Architecture, ...], look: Look) -> Found:
    """What is wrong with it. A package that only a variable will tell is judged by the run."""
    package = str(step.keys.get("package", ""))
    if not package or "%" in package:
        return
    version = step.whole("version")
    known = look(package, version)
    if known is None:
        of = f" of version {version}" if version else ""
        yield (
            "package",
            f"no package {package}{of} here; `dpd content publish` or `distribute` brings it, then try again",
        )
    elif step.kind in _APPLIES:
        yield from _check_image(step, package, known, architectures)


def _check_image(step: Step, package: str, known: KnownPackage, architectures: tuple[Architecture, ...]) -> Found:
    if not known.is_wim:
        yield "package", f"{package} is no WIM in one file; publish the image as one"
        return
    index, count = step.whole("index"), len(known.architectures)
    if index > count:
        yield (
            "index",
            f"{index}, and {package} has {count} {'image' if count == 1 else 'images'}; `dpd content images {package}` lists them",
        )
        return
    architecture = known.architectures[index - 1]
    if step.kind is StepKind.APPLY_OS_IMAGE and architecture and architectures and architecture not in architectures:
        named = ", ".join(architectures)
        yield (
            "index",
            f"{index} of {package} is for {architecture}, and the sequence for {named}; expected an image for those machines",
        )
