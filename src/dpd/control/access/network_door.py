# SPDX-License-Identifier: Apache-2.0
"""The door of the API on TCP: a token in the request, or the certificate of its connection, says who asks."""

from __future__ import annotations

import hmac
import logging
import ssl
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from dpd.control.access.callers import Caller, CallerUnknown, Role
from dpd.control.access.roles_file import Roles, RolesFile
from dpd.errors import SettingsError
from dpd.settings import ControlSettings
from dpd.token_file import read_token_file

log = logging.getLogger(__name__)

DOOR = "tcp"
MIN_TOKEN_CHARACTERS = 16
_SCHEME = "bearer "  # RFC 9110 section 11.1: the scheme in any case


class NetworkDoor:
    """Knows the bearer of the token in control.token_file, who is admin, and whom control.roles_file names.

    A request with a token is judged by that alone, one without by the certificate that its connection began with.
    """

    def __init__(self, settings: ControlSettings, door: str = DOOR) -> None:
        """`door` is what callers have come by. Raises SettingsError."""
        self._token_file = Path(settings.token_file) if settings.token_file else None
        self._token = read_token(self._token_file) if self._token_file else ""
        self._roles = RolesFile(Path(settings.roles_file)) if settings.roles_file else None
        self._door = door
        self._known = Roles() if self._roles is None else self._roles.current(lambda _: None)

    def __call__(self, request: web.Request) -> Caller:
        """Who asks. Raises CallerUnknown."""
        given = request.headers.get("Authorization")
        if given is not None:
            return self._bearer(given, request)
        if self._roles is None:
            raise CallerUnknown("expected the header `Authorization: Bearer TOKEN` with a token that dpd knows")
        return self._owner_of_certificate(request)

    def read_again(self) -> None:
        """At a reload. What cannot be read is told, and stays as it was."""
        self._current()
        try:
            if self._token_file is not None:
                self._token = read_token(self._token_file)
        except SettingsError as error:
            log.error("token kept as it was", extra={"error": str(error)})

    def _bearer(self, header: str, request: web.Request) -> Caller:
        token = header[len(_SCHEME) :].strip() if header[: len(_SCHEME)].lower() == _SCHEME else ""
        if not token:
            raise CallerUnknown("expected the header `Authorization: Bearer TOKEN`")
        guess = token.encode("utf-8", "surrogateescape")
        if self._token and hmac.compare_digest(guess, self._token.encode()):  # the same time for each wrong guess
            return Caller(f"token from {request.remote}", Role.ADMIN, self._door)
        found = self._current().bearer(token)
        if found is None:
            raise CallerUnknown("nobody is known by this token; `dpd token add NAME` makes one that is")
        return Caller(f"token {found.name}", found.role, self._door)

    def _owner_of_certificate(self, request: web.Request) -> Caller:
        name = _common_name(request)
        if not name:
            raise CallerUnknown(
                "expected the header `Authorization: Bearer TOKEN` with a token that dpd knows, or a client certificate"
            )
        found = self._current().certificate(name)
        if found is None:
            raise CallerUnknown(f"certificate {name[:64]!r}: no [[certificate]] of this name in control.roles_file")
        return Caller(f"certificate {found.name}", found.role, self._door)

    def _current(self) -> Roles:
        if self._roles is None:
            return Roles()
        roles = self._roles.current(lambda problem: log.error("roles file", extra={"problem": problem}))
        if roles is not self._known:
            self._known = roles
            log.warning("who is known has changed", extra={"tokens": len(roles.tokens), "certificates": len(roles.certificates)})  # fmt: skip
        return roles


def _common_name(request: web.Request) -> str:
    """Of the certificate that OpenSSL has checked against control.client_ca_file; "" where there is none to go by."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    shown: dict[str, Any] | None = tls.getpeercert() if tls is not None else None
    if tls is None or not shown:
        return ""
    if tls.session_reused:
        raise CallerUnknown(
            "certificate: not shown in this connection, which resumes another; expected a new handshake"
        )
    if ssl.cert_time_to_seconds(shown["notAfter"]) < time.time():  # since the handshake
        raise CallerUnknown("certificate: has expired; expected one that is valid")
    names = [value for part in shown["subject"] for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""


def read_token(path: Path) -> str:
    """The token of TCP clients. Raises SettingsError if the file is missing, open to others or too short."""
    hint = "`openssl rand -hex 32` makes one"
    return read_token_file(path, "control.token_file", hint=hint, min_characters=MIN_TOKEN_CHARACTERS)
