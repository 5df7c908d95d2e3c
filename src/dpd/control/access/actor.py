# SPDX-License-Identifier: Apache-2.0
"""Who asks the API, as the audit has it; and the door of the Unix socket, where that is the local user at its other end."""

from __future__ import annotations

import os
import pwd
import socket
import struct

from aiohttp import web

from dpd.control.access.callers import Caller, CallerUnknown, Role, caller_of

_CREDENTIALS = struct.Struct("3i")  # unix(7): pid, uid, gid


def actor_of(request: web.Request) -> str:
    """A name for people; the daemon's checks have been passed already."""
    return caller_of(request).name


def local_user(request: web.Request) -> Caller:
    """The door of a Unix socket: whoever its mode lets in is admin. Raises CallerUnknown where it is no Unix socket."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        raise CallerUnknown("expected a connection by the Unix socket of control.socket")
    return Caller(_user_at(sock.fileno()), Role.ADMIN, "unix")


def _user_at(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as peer:  # uvloop's own object has no getsockopt
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
