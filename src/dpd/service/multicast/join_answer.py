# SPDX-License-Identifier: Apache-2.0
"""What a join answers: the image, the place, and where the stream is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpd.content.library import Content
from dpd.protocol.multicast.message import WIRE_VERSION
from dpd.service.multicast.roster import Place
from dpd.service.multicast.stream import Stream
from dpd.service.network.groups import Group
from dpd.service.sealing import CIPHER


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream with its group, our address as its receivers see it, and its key, empty where nothing is encrypted."""

    stream: Stream
    group: Group
    address: str
    key: bytes
    salt: bytes


def content_answer(content: Content, session_id: str, place: Place, public_key: bytes) -> dict[str, Any]:
    """What every receiver is told."""
    how = {"mode": "multicast"} if place.is_multicast else {"mode": "unicast", "reason": place.reason}
    return {
        "wire": WIRE_VERSION,
        "session_id": session_id,
        "member": f"{place.member:016x}",
        "package_id": content.package_id,
        "source_version": content.source_version,
        "size_bytes": content.size_bytes,
        "sha256": content.sha256,
        "public_key": public_key.hex(),
        **how,
    }


def stream_answer(opened: OpenStream) -> dict[str, Any]:
    """Where to listen, where to send feedback, how to decrypt."""
    return {
        "group": opened.group.address,
        "port": opened.group.port,
        "source": opened.address if opened.group.is_source_specific else "",
        "sender": opened.address,
        "feedback_port": opened.stream.feedback_port,
        "cipher": CIPHER if opened.key else "",
        "key": opened.key.hex(),
        "salt": opened.salt.hex(),
    }
