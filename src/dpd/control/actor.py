# SPDX-License-Identifier: Apache-2.0
"""Who asks the API, as the audit has it: the local user at the other end of the socket, or the address that a token came from."""

from __future__ import annotations

import os
import pwd
import socket
import struct

from aiohttp import web

_CREDENTIALS = struct.Struct("3i")  # unix(7): pid, uid, gid


def actor_of(request: web.Request) -> str:
    """A name for people; the daemon's checks have been passed already."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None:
        return "unknown"
    if sock.family != socket.AF_UNIX:
        return f"token from {request.remote}"
    return _user_at(sock.fileno())


def _user_at(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as peer:  # uvloop's own object has no getsockopt
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
