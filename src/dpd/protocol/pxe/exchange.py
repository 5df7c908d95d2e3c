# SPDX-License-Identifier: Apache-2.0
"""What is said around one answer: how the message came, who asks, what policy grants, and the reply or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dpd.protocol.dhcp.message import Message, MessageType
from dpd.protocol.dhcp.options import BootItem
from dpd.protocol.machine import Address
from dpd.protocol.pxe.profiles import Flow, Profile
from dpd.protocol.pxe.relay import RelayAgent
from dpd.protocol.pxe.rules import Machine, Rule

EVERYONE = "255.255.255.255"


class Reason(StrEnum):
    """Why a message gets no answer; the closed set of labels for counters."""

    NOT_A_REQUEST = "not_a_request"  # a server's reply, perhaps our own
    PLAIN_BOOTP = "plain_bootp"  # no option 53
    APPLE_BSDP = "apple_bsdp"
    NOT_NETWORK_BOOT = "not_network_boot"  # an ordinary DHCP client
    NO_HARDWARE_ADDRESS = "no_hardware_address"
    BAD_ADDRESS = "bad_address"  # giaddr or ciaddr to which nobody may send
    LEASE_REQUEST = "lease_request"  # the client takes its lease, from the lease server
    WRONG_PORT = "wrong_port"
    OTHER_MESSAGE_TYPE = "other_message_type"
    SWITCHED_OFF = "switched_off"
    TOO_EARLY = "too_early"  # the response delay is not over yet
    POLICY = "policy"  # it decided on silence, or on something that this client has no words for
    NO_RULE = "no_rule"
    CHAIN_BROKEN = "chain_broken"  # the loader failed its check
    NO_OWN_ADDRESS = "no_own_address"
    OTHER_INTERFACE = "other_interface"


class Outcome(StrEnum):
    """What policy wants of a machine, in the words of `dpd.site.decision`, which this layer may not see."""

    BOOT = "boot"
    PROMPT = "prompt"
    ABORT = "abort"
    WAIT = "wait"
    SILENT = "silent"


@dataclass(slots=True)
class Grant:
    """What policy gives. An empty `loader` means that of the rules, also with `image`: a public loader may have to come first.
    `bcd_name` goes with loaders of Microsoft alone; `message` is for whoever sits at the machine."""

    outcome: Outcome = Outcome.BOOT
    loader: str = ""
    image: str = ""
    bcd_name: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What differs for the clients of one network: our own address there ("": the one they asked), and the response delay
    (None: as everywhere)."""

    server: str = ""
    response_delay_s: int | None = None


def everywhere(link: str) -> Place:
    """No network differs."""
    return Place()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants, as plain values. In a rule's loader {server}, {http_port} and {https_port} are filled in;
    `place_of` gives what differs for a client's network; `refusal_of` says in one sentence why a boot file must not
    go out, "" where it may."""

    rules: tuple[Rule, ...]
    respond: bool = True
    response_delay_s: int = 0
    client_port: int = 68
    relay_port: int = 67
    http_port: int = 80
    https_port: int = 443
    place_of: Callable[[str], Place] = everywhere
    refusal_of: Callable[[str], str] = lambda loader: ""


@dataclass(slots=True)
class Arrival:
    """How a message came: from whom, at which of our addresses it can be answered, and whether on port 4011."""

    source: Address
    server: str
    at_boot_port: bool


@dataclass(slots=True)
class Question:
    """A message that is to be answered now. `server` is our address as that client gets it; `item` the line of the boot menu
    that it chose."""

    message: Message
    arrival: Arrival
    machine: Machine
    profile: Profile
    relay: RelayAgent
    server: str
    item: BootItem | None = None

    @property
    def is_discover(self) -> bool:
        return self.message.message_type == MessageType.DISCOVER


@dataclass(slots=True)
class Reply:
    """An answer. A broadcast must leave by the interface on which the request came. `rule` is "" where the client
    gets nothing to run: a menu, or the URL of no file."""

    payload: bytes
    destination: Address
    message_type: MessageType
    machine: Machine
    rule: str
    loader: str
    server: str
    profile: str
    flow: Flow

    @property
    def is_broadcast(self) -> bool:
        return self.destination[0] == EVERYONE

    @property
    def hands_out(self) -> bool:
        """Whether the client is given something to run."""
        return bool(self.rule)


@dataclass(slots=True)
class Ignored:
    """Silence and why; the machine is known where the message was one of network boot. `delay_s` goes with TOO_EARLY."""

    reason: Reason
    machine: Machine | None = None
    detail: str = ""
    delay_s: int = 0
