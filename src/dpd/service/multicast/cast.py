# SPDX-License-Identifier: Apache-2.0
"""When a session starts and how fast it may go: the operator's plan for one cast, and its state in words."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Self

from dpd.protocol.multicast.policy import PolicyRules, SlowClients
from dpd.protocol.multicast.schedule import Schedule
from dpd.settings import MulticastSettings

PATIENCE = 4  # x start_delay_s: the longest that a group gathers


@dataclass(frozen=True, slots=True)
class CastPlan:
    """What was asked for one session. `start_at` is seconds since the epoch; `rate_mbit_s` 0 is no ceiling;
    `minimum_clients` 0 or 1 without `start_at` is autocast."""

    minimum_clients: int
    wait_s: float
    start_at: float | None
    rate_mbit_s: float
    max_clients: int

    @classmethod
    def of(cls, settings: MulticastSettings) -> Self:
        """What the settings say for every session."""
        return cls(
            settings.minimum_clients, settings.wait_for_clients_s, None, settings.rate_mbit_s, settings.max_clients
        )

    def with_changes(self, changes: CastChanges) -> CastPlan:
        given = {name: value for name in CastChanges.__slots__ if (value := getattr(changes, name)) is not None}
        return replace(self, **given)

    def schedule(self, settings: MulticastSettings) -> Schedule:
        """As the sender has it, in monotonic time."""
        delay_s = settings.start_delay_s
        return Schedule(delay_s, PATIENCE * delay_s, self.minimum_clients, self.wait_s, self.monotonic_start())

    @property
    def is_to_come(self) -> bool:
        """Whether its start time lies ahead."""
        return self.start_at is not None and self.start_at > time.time()

    def monotonic_start(self) -> float | None:
        return None if self.start_at is None else time.monotonic() + self.start_at - time.time()


@dataclass(frozen=True, slots=True)
class CastChanges:
    """What an operator sets for one session; None leaves the settings' value."""

    minimum_clients: int | None = None
    wait_s: float | None = None
    start_at: float | None = None
    rate_mbit_s: float | None = None
    max_clients: int | None = None

    @property
    def is_schedule(self) -> bool:
        return (self.minimum_clients, self.wait_s, self.start_at) != (None, None, None)


def rules_of(settings: MulticastSettings) -> PolicyRules:
    """What is to become of slow receivers."""
    return PolicyRules(
        SlowClients(settings.slow_clients),
        settings.streams,
        settings.disconnect_below_kib_s,
        settings.floor_kib_s,
        settings.fall_back,
    )


def waiting_in_words(plan: CastPlan, waiting: int, starts_in_s: float | None) -> str:
    """Why nothing is sent yet, such as "waiting for 3 of 8 receivers, starts in 4 min"; empty where nothing is awaited."""
    parts = []
    if plan.minimum_clients > 1 and waiting < plan.minimum_clients:
        parts.append(f"waiting for {plan.minimum_clients - waiting} of {plan.minimum_clients} receivers")
    if starts_in_s is not None:
        parts.append(f"starts in {_in_words(starts_in_s)}")
    elif plan.is_to_come and plan.start_at is not None:
        parts.append(f"starts in {_in_words(plan.start_at - time.time())} at the earliest")
    return ", ".join(parts)


def _in_words(seconds: float) -> str:
    """A duration as people say it, rounded up."""
    if seconds < 90:
        return f"{math.ceil(max(seconds, 0.0))} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
