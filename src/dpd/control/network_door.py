# SPDX-License-Identifier: Apache-2.0
"""The door of the API on TCP: the token in the request says who asks."""

from __future__ import annotations

import hmac

from aiohttp import web

from dpd.control.access import Caller, CallerUnknown, Role

DOOR = "tcp"


class NetworkDoor:
    """Knows the bearer of the token in control.token_file, who is admin."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def __call__(self, request: web.Request) -> Caller:
        """Who asks. Raises CallerUnknown."""
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given, self._expected):  # takes the same time however much of a guess is right
            return Caller(f"token from {request.remote}", Role.ADMIN, DOOR)
        raise CallerUnknown("expected the header `Authorization: Bearer TOKEN` with the token of control.token_file")
