# SPDX-License-Identifier: Apache-2.0
"""How this point stands with its site: what may be asked of the bus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BusStatus:
    """`state` is "off", "connected" or "away"; `since` when that began, `trouble` why it is away. `policy_version` is the site's
    version that is held here (0 none), `policy_age_s` how long ago its word was last heard to hold, `policy_refusal` why the
    last document was not taken. Status messages up to `status_confirmed` of series `status_epoch` are with the site."""

    state: str
    url: str = ""
    site: str = ""
    point: str = ""
    domain: str = ""
    server: str = ""
    since: float = 0.0
    trouble: str = ""
    policy_version: int = 0
    policy_age_s: float = 0.0
    policy_refusal: str = ""
    status_epoch: str = ""
    status_latest: int = 0
    status_confirmed: int = 0
    status_backlog: int = 0
    desired_packages: int = 0
    desired_missing: int = 0
    counted: dict[str, int] = field(default_factory=dict)


OFF = BusStatus("off")


class BusOperations:
    """The verbs of the bus; `source` tells how it stands, where there is one."""

    def __init__(self) -> None:
        self.source: Callable[[], BusStatus] = lambda: OFF

    def status(self) -> BusStatus:
        """Plain reads, no waiting."""
        return self.source()
