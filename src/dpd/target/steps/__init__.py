# SPDX-License-Identifier: Apache-2.0
"""What each kind of step does on the machine: one module each, called as the kind is. `run(work)` does it and returns what there is
to say. It is imported when the first such step begins, since most sequences have few of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from dpd.sequence.records import StepKind

if TYPE_CHECKING:
    from dpd.target.work.work import Work


def module_of(kind: StepKind) -> str:
    """The name of the module that does it."""
    return f"{__name__}.{kind}"


def _runner(kind: StepKind) -> Callable[[Work], str]:
    def run(work: Work) -> str:
        return cast("str", import_module(module_of(kind)).run(work))

    return run


STEPS: Final[Mapping[StepKind, Callable[[Work], str]]] = MappingProxyType({kind: _runner(kind) for kind in StepKind})
