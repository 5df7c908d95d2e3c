# SPDX-License-Identifier: Apache-2.0
"""What HTTP clients reach behind the routes: the sessions, and the network tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class MulticastDoor(Protocol):
    """Where receivers join sessions. The verbs may be called from any thread and return soon. They raise
    ContentNotFound, SessionError (why not now), or MalformedMessage that names the field of `request`."""

    def join(
        self,
        package_id: str,
        source_version: int | None,
        request: Mapping[str, Any],
        client_address: str,
        *,
        is_secure: bool = False,
    ) -> dict[str, Any]:
        """`is_secure`: the request came over TLS, so that the answer may carry a key."""

    def progress(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def complete(self, session_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...


class ProbeDoor(Protocol):
    """Where `dpd mc-test` has a network tested; called and refused like MulticastDoor."""

    def open(self, request: Mapping[str, Any], client_address: str) -> dict[str, Any]: ...

    def run(self, test_id: str) -> dict[str, Any]: ...

    def status(self, test_id: str) -> dict[str, Any]: ...

    def finish(self, test_id: str, request: Mapping[str, Any]) -> dict[str, Any]: ...
