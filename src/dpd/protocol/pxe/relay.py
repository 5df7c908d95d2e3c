# SPDX-License-Identifier: Apache-2.0
"""What a relay agent says about the client it speaks for: giaddr and option 82 (RFC 3046)."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.dhcp.message import UNSPECIFIED, Message
from dpd.protocol.dhcp.options import Option, RelayTag, read_suboptions, unpack_address

ADDRESS_BYTES = 4
_RELAY_AGENT = int(Option.RELAY_AGENT)


@dataclass(frozen=True, slots=True)
class RelayAgent:
    """`address` is giaddr, "" without a relay. `link` is an address of the client's own network: the relay's, or another one
    where the relay says so (RFC 3527). `server_id` replaces option 54 (RFC 5107). `circuit` is hex."""

    address: str = ""
    link: str = ""
    server_id: str = ""
    circuit: str = ""
    answer_to_source_port: bool = False  # RFC 8357


NO_RELAY = RelayAgent()


def read_relay(message: Message) -> RelayAgent:
    """The relay of a message. Sub-options of a wrong length say nothing. Raises MalformedMessage for a cut option 82."""
    told = message.option(_RELAY_AGENT)
    if told is None and message.giaddr == UNSPECIFIED:
        return NO_RELAY
    tags = dict(read_suboptions(told or b"", framed=False))
    address = "" if message.giaddr == UNSPECIFIED else message.giaddr
    return RelayAgent(
        address=address,
        link=_address(tags.get(RelayTag.LINK_SELECTION)) or address,
        server_id=_address(tags.get(RelayTag.SERVER_ID_OVERRIDE)),
        circuit=tags.get(RelayTag.CIRCUIT_ID, b"").hex(),
        answer_to_source_port=RelayTag.SOURCE_PORT in tags,
    )


def _address(octets: bytes | None) -> str:
    return unpack_address(octets) if octets is not None and len(octets) == ADDRESS_BYTES else ""
