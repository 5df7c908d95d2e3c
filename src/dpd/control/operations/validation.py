# SPDX-License-Identifier: Apache-2.0
"""The verbs about validation: when content was compared and will be, and what was found. Ordering it is a job's verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dpd.distribution.validation.clock import ValidationClock
from dpd.distribution.validation.store import DamagedBlob, ValidationRun, ValidationStore
from dpd.distribution.validation.validation import Validation
from dpd.errors import Unavailable

InWorker: TypeAlias = Callable[..., Awaitable[Any]]


class Opened(Protocol):
    """What is asked of distribution."""

    @property
    def validation(self) -> Validation: ...
    @property
    def validations(self) -> ValidationStore: ...
    @property
    def clock(self) -> ValidationClock: ...


@dataclass(frozen=True, slots=True)
class ValidationStatus:
    """`validated_at` is when everything had been compared the last time (0: never), `next_at` when that is ordered next (0:
    never), both in seconds since the epoch; `damaged` counts the files that are damaged now; `runs` are the newest first."""

    validated_at: float
    next_at: float
    damaged: int
    runs: tuple[ValidationRun, ...]


class ValidationOperations:
    """The verbs over one distribution."""

    def __init__(self, opened: Opened | None, in_worker: InWorker) -> None:
        self._opened = opened
        self._in_worker = in_worker

    async def status(self, limit: int) -> ValidationStatus:
        """With at most `limit` runs."""
        opened = self._distribution()

        def looked() -> ValidationStatus:
            opened.validation.reconcile()
            store = opened.validations
            damaged = len(store.open_damage())
            return ValidationStatus(
                store.validated_at(), opened.clock.next_due() or 0.0, damaged, tuple(store.runs(limit))
            )

        status: ValidationStatus = await self._in_worker(looked)
        return status

    async def damage(self, limit: int) -> list[DamagedBlob]:
        """What is damaged now, then what was, the latest first."""
        opened = self._distribution()

        def looked() -> list[DamagedBlob]:
            opened.validation.reconcile()
            return opened.validations.damage(limit)

        found: list[DamagedBlob] = await self._in_worker(looked)
        return found

    def _distribution(self) -> Opened:
        if self._opened is None:
            raise Unavailable("this dpd runs without distribution; start it with `dpd serve`")
        return self._opened
