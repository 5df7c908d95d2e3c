# SPDX-License-Identifier: Apache-2.0
"""How much a protocol machine keeps: the entries of every list, dictionary, set and queue that it can reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

CONTAINERS = (list, tuple, set, frozenset, deque)


def entries(machine: object) -> int:
    """Entries of all containers below `machine`, each container once. Bytes count as one entry of what holds them."""
    seen: set[int] = set()
    to_visit: list[Any] = [machine]
    count = 0
    while to_visit:
        thing = to_visit.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        parts = list(_parts(thing))
        count += len(parts) if isinstance(thing, (dict, *CONTAINERS)) else 0
        to_visit += (part for part in parts if _may_hold(part))
    return count


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, dict):
        return thing.values()
    if isinstance(thing, CONTAINERS):
        return thing
    slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    return [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name) for name in slots if hasattr(thing, name))]


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _may_hold(thing: Any) -> bool:
    return isinstance(thing, (dict, *CONTAINERS)) or type(thing).__module__.startswith("dpd.protocol")
