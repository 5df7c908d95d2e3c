# SPDX-License-Identifier: Apache-2.0
"""When a session begins to send to a group of receivers that have joined.

Autocast: when nobody has joined for `quiet_s`, at the latest `patience_s` after the first. Scheduled cast: not before
`start_at`; not before `minimum_clients` wait or `wait_s` have passed since the first join, whichever comes first; then as
in autocast, with the patience counted from there. `start_now` overrides all of it. Those who join later share what is
being sent; once nobody lacks anything, the next to join begins a new group under the same rules.
"""

from __future__ import annotations


class Schedule:
    """Times are in the clock of `now`; `minimum_clients` 0 or 1 and `start_at` None: autocast."""

    def __init__(
        self,
        quiet_s: float,
        patience_s: float,
        minimum_clients: int = 0,
        wait_s: float = 0.0,
        start_at: float | None = None,
    ) -> None:
        self.quiet_s = quiet_s
        self.patience_s = patience_s
        self.minimum_clients = minimum_clients
        self.wait_s = wait_s
        self.start_at = start_at
        self._waiting = 0
        self._first_at: float | None = None  # the first join of this group; None: nobody has joined
        self._last_at = 0.0
        self._enough_at: float | None = None  # when `minimum_clients` waited
        self._released_at: float | None = None  # this group is to start, or has started, whatever the rules say
        self._next_released = False  # start_now came before the group that it is for

    def note_join(self, members: int, now: float) -> None:
        """One joined; `members` lack something now, this one included."""
        if members <= 1:
            self._first_at, self._enough_at = now, None
            self._released_at, self._next_released = now if self._next_released else None, False
        elif self._has_started(now):
            return
        self._waiting, self._last_at = members, now
        self._note_enough(now)

    def start_now(self, now: float) -> None:
        """Start with those who have joined; where that group has started, or nobody is there, with the next."""
        if self._first_at is None or self._has_started(now):
            self._next_released = True
        else:
            self._released_at = now

    def change(self, *, minimum_clients: int, wait_s: float, start_at: float | None, now: float) -> None:
        """Other rules from now on; a group that has started goes on."""
        if self._has_started(now):
            self._released_at = now
        self.minimum_clients, self.wait_s, self.start_at = minimum_clients, wait_s, start_at
        self._enough_at = None
        self._note_enough(now)

    def starts_at(self, now: float) -> float | None:
        """When to start, as it looks at `now`: in the past where it has started; None: nobody has joined."""
        if self._first_at is None or self._released_at is not None:
            return self._released_at
        may = self._first_at if self.start_at is None else max(self._first_at, self.start_at)
        if self._enough_at is not None:
            may = max(may, min(self._enough_at, self._first_at + self.wait_s))
        elif self.minimum_clients > 1:
            may = max(may, self._first_at + self.wait_s)
        return max(may, min(self._last_at + self.quiet_s, may + self.patience_s))

    def _has_started(self, now: float) -> bool:
        at = self.starts_at(now)
        return at is not None and at <= now

    def _note_enough(self, now: float) -> None:
        if self._enough_at is None and self._waiting >= self.minimum_clients > 1:
            self._enough_at = now
