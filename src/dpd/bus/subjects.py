# SPDX-License-Identifier: Apache-2.0
"""Where things are on the bus: the subjects, streams and buckets of one site.

A point at a hub sends its status to `status.P`, one behind a leaf node to `edge.P`: were both one subject, each message of a
leaf would be at the hub twice, once by its interest and once by its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SITE_SERVER = "_site"  # no point can have this name

_PLAIN = re.compile(r"[a-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one site."""

    site: str

    # ---- subjects

    @property
    def _root(self) -> str:
        return f"dpd.{self.site}"

    def ask(self, point: str) -> str:
        """Requests to a point; `messages.Ask`."""
        return f"{self._root}.ask.{point}"

    def hello(self, point: str) -> str:
        """Its presence; `messages.Hello`. "*" is every point."""
        return f"{self._root}.hello.{point}"

    def status(self, point: str, *, behind_leaf: bool = False) -> str:
        """Its status messages; `messages.StatusReport`."""
        return f"{self._root}.{'edge' if behind_leaf else 'status'}.{point}"

    @property
    def notice(self) -> str:
        """The site server's word; `messages.Notice`."""
        return f"{self._root}.notice"

    def inbox(self, who: str) -> str:
        """What the places begin with to which answers come: of a point, or of SITE_SERVER. Its own for each, so that the NATS
        server can keep them apart."""
        return f"_INBOX.{self._root}.{who}"

    # ---- streams

    @property
    def status_stream(self) -> str:
        """At the hub it takes `status.*` and sources the stream of this name of each leaf domain, which takes `edge.*`."""
        return f"dpd_{self.site}_status"

    # ---- buckets

    @property
    def policy_bucket(self) -> str:
        """Keys: `POLICY_HEAD` and those of `chunk_key`."""
        return f"dpd_{self.site}_policy"

    @property
    def runs_bucket(self) -> str:
        """Keys: those of `run_key`."""
        return f"dpd_{self.site}_runs"

    @property
    def desired_bucket(self) -> str:
        """Keys: names of points."""
        return f"dpd_{self.site}_desired"

    @property
    def site_bucket(self) -> str:
        """The site server's own, of no concern to points: `LEASE`, and `ESTATE`, what its successor needs."""
        return f"dpd_{self.site}_site"

    @property
    def buckets(self) -> tuple[str, ...]:
        """Those of points, which a leaf node mirrors."""
        return self.policy_bucket, self.runs_bucket, self.desired_bucket


POLICY_HEAD = "head"
LEASE, ESTATE = "lease", "estate"


def chunk_key(slot: int, index: int) -> str:
    """The policy's chunks have two slots, which a publisher uses in turn: who reads the last one is not disturbed."""
    return f"chunk.{slot}.{index}"


def run_key(deployment: int, machine: str) -> str:
    """`machine` is a computer's name in lower case or a MAC; a key may have neither colons nor dots at any place."""
    return f"{deployment}." + "".join(c if _PLAIN.fullmatch(c) else f"={ord(c):02X}" for c in machine)


def run_of_key(key: str) -> tuple[int, str]:
    """Raises ValueError for a key that is none of `run_key`."""
    number, dot, machine = key.partition(".")
    if not dot or not machine:
        raise ValueError(f"{key!r}: expected DEPLOYMENT.MACHINE")
    return int(number), _ESCAPED.sub(lambda found: chr(int(found[1], 16)), machine)


def point_of(subject: str) -> str:
    """The point of an ask, a hello or a status message."""
    return subject.rpartition(".")[2]
