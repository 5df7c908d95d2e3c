# SPDX-License-Identifier: Apache-2.0
"""The network that a model client is on: a lease server, and dpd in one of its modes or behind a relay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from dpd.protocol.dhcp.message import BOOT_REPLY, UNSPECIFIED, Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import Option, pack_address
from dpd.protocol.pxe.responder import Arrival, Grant, Policy, Reply, respond
from dpd.service.network.raw_listener import read_udp
from dpd.service.pxe.ports import build_packet

DPD = "10.77.0.10"
LEASE_SERVER = "10.77.0.2"
LEASED = "10.77.0.100"
RELAY = "10.77.0.1"
CIRCUIT = b"\x01\x04eth7"


class Wire(Protocol):
    """What a client can do on its network; here a Network, in tests/interop real sockets."""

    def discover(self, payload: bytes) -> list[bytes]:
        """The offers to a broadcast."""

    def discover_by_item(self, payload: bytes) -> list[bytes]:
        """The answers to a boot server discovery by broadcast."""

    def lease(self, payload: bytes) -> Message:
        """The lease server's ACK."""

    def visit(self, server: str, payload: bytes, port: int = 4011) -> list[bytes]:
        """The answers of the boot server at an address, asked from a port."""


@dataclass(frozen=True)
class LeaseServer:
    """A DHCP server that knows nothing of booting; `vendor_class`, `siaddr` and `file` are for one that says more."""

    address: str = LEASE_SERVER
    vendor_class: bytes = b""
    siaddr: str = UNSPECIFIED
    file: bytes = b""

    def answer(self, asked: Message) -> bytes:
        kind = MessageType.OFFER if asked.message_type == MessageType.DISCOVER else MessageType.ACK
        options = [
            (int(Option.MESSAGE_TYPE), bytes((kind,))),
            (int(Option.SERVER_ID), pack_address(self.address)),
            (1, b"\xff\xff\0\0"),
            (51, b"\0\0\x0e\x10"),
        ]
        if self.vendor_class:
            options.append((int(Option.VENDOR_CLASS), self.vendor_class))
        return encode(
            Message(
                BOOT_REPLY,
                asked.xid,
                asked.chaddr,
                tuple(options),
                yiaddr=LEASED,
                siaddr=self.siaddr,
                file=self.file,
                flags=asked.flags,
            )
        )


@dataclass
class Network:
    """A lease server and dpd in one of its modes, "relayed" being the normal one behind a relay agent."""

    policy: Policy
    mode: str = "normal"
    grant: Grant = field(default_factory=Grant)
    lease_server: LeaseServer = field(default_factory=LeaseServer)
    visits: int = 0  # to port 4011

    def discover(self, payload: bytes) -> list[bytes]:
        """The offers to a broadcast, the lease server's first."""
        asked = decode(payload)
        return [self.lease_server.answer(asked), *self._ask_67(asked)]

    def discover_by_item(self, payload: bytes) -> list[bytes]:
        """The answers to a boot server discovery by broadcast."""
        return self._ask_67(decode(payload))

    def _ask_67(self, asked: Message) -> list[bytes]:
        if self.mode == "boot_port_only":
            return []
        if self.mode == "relayed":
            return [self._unrelay(payload) for payload in self._respond(self._relay(asked), (RELAY, 67), False)]
        return self._respond(asked, ("0.0.0.0", 68), False)

    def lease(self, payload: bytes) -> Message:
        return decode(self.lease_server.answer(decode(payload)))

    def visit(self, server: str, payload: bytes, port: int = 4011) -> list[bytes]:
        """The answers of the boot server at an address."""
        self.visits += 1
        return self._respond(decode(payload), (LEASED, port), True) if server == DPD else []

    def _relay(self, asked: Message) -> Message:
        return replace(asked, giaddr=RELAY, hops=1, options=(*asked.options, (int(Option.RELAY_AGENT), CIRCUIT)))

    def _unrelay(self, payload: bytes) -> bytes:
        """RFC 3046 section 2.1: a relay takes off what it added, and looks for it at the end."""
        answer = decode(payload)
        assert (answer.giaddr, answer.options[-1]) == (RELAY, (Option.RELAY_AGENT, CIRCUIT))
        return encode(replace(answer, options=answer.options[:-1]))

    def _respond(self, asked: Message, source: tuple[str, int], at_boot_port: bool) -> list[bytes]:
        reply = respond(asked, Arrival(source, DPD, at_boot_port), self.policy, self.grant)
        if not isinstance(reply, Reply):
            return []
        if self.mode != "sniff" or at_boot_port:
            return [reply.payload]
        sender, destination, payload = read_udp(build_packet((DPD, 67), reply.destination, reply.payload))
        assert (sender, destination) == ((DPD, 67), reply.destination)
        return [payload]
