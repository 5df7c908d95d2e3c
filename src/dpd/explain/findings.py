# SPDX-License-Identifier: Apache-2.0
"""What became of a boot, and what those who judge it look at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from dpd.telemetry.boot_story import Attempt, fetched
from dpd.telemetry.journal import BootEvent

PATIENCE_S = 20.0  # of silence: firmware asks again within 16 s, TFTP clients within 4


class BootCause(StrEnum):
    """A closed set, for programs."""

    FINE = "fine"
    IN_PROGRESS = "in_progress"
    NO_RELAY = "no_relay"
    MAINTENANCE = "maintenance"
    SWITCHED_OFF = "switched_off"
    IGNORED_MAC = "ignored_mac"
    UNKNOWN_DENIED = "unknown_denied"
    UNKNOWN_PENDING = "unknown_pending"
    PIN_MISSING = "pin_missing"
    NOTHING_DEPLOYED = "nothing_deployed"
    NOT_FOR_PXE = "not_for_pxe"
    ALREADY_RUN = "already_run"
    NOT_YET = "not_yet"
    DEPLOYMENT_EXPIRED = "deployment_expired"
    BRAKE = "brake"
    GUID_SHARED = "guid_shared"
    NO_IMAGE_FOR_ARCH = "no_image_for_arch"
    LOADER_CHAIN_BROKEN = "loader_chain_broken"
    RESPONSE_DELAY = "response_delay"
    SEND_FAILED = "send_failed"
    NOT_ANSWERED = "not_answered"
    SECOND_PROXY = "second_proxy"
    LEASE_SERVER_SETS_FILE = "lease_server_sets_file"
    STRAY_OPTION_60 = "stray_option_60"
    NO_LEASE = "no_lease"
    OFFERS_NOT_MERGED = "offers_not_merged"
    KEY_NOT_PRESSED = "key_not_pressed"
    HTTPS_NOT_TRUSTED = "https_not_trusted"
    TFTP_BLOCKED = "tftp_blocked"
    MTU_HOLE = "mtu_hole"
    TRANSFER_BROKEN = "transfer_broken"
    FILE_MISSING = "file_missing"
    TICKET_EXPIRED = "ticket_expired"
    NO_TICKET = "no_ticket"
    OTHER_IMAGE = "other_image"
    SIGNED_GRUB_STALL = "signed_grub_stall"
    LOADER_NOT_STARTED = "loader_not_started"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the machine's own story. Times are seconds since the epoch."""

    now: float
    server: str = ""  # our address, as machines reach it
    relays: Mapping[str, float] = field(default_factory=dict)  # when each relay last passed something on
    shared_ids: Collection[str] = ()  # GUIDs that policy does not go by, since several machines have them


@dataclass(frozen=True, slots=True)
class Finding:
    """What a judge found: the cause, a sentence, and what to do."""

    cause: BootCause
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What a judge looks at: the newest attempt, those before it, and what is around."""

    attempt: Attempt
    earlier: Sequence[Attempt]
    around: Surroundings

    @property
    def is_over(self) -> bool:
        """Whether what did not come will not come any more."""
        return self.around.now - self.attempt.ended_at >= PATIENCE_S

    @property
    def is_answered(self) -> bool:
        return self.attempt.last("offer", "boot_reply") is not None

    @property
    def server(self) -> str:
        """Our address, as this machine was told it."""
        return self._told("server") or self.around.server or "this server"

    @property
    def loader(self) -> str:
        """What this machine was told to load."""
        return self._told("loader")

    @property
    def last_fetched(self) -> BootEvent | None:
        """The newest file that went to the machine as a whole."""
        return next((event for event in reversed(self.attempt.events) if fetched(event)), None)

    def ignored(self, reason: str) -> BootEvent | None:
        """The newest question that was left unanswered for this reason."""
        events = [event for event in self.attempt.all("ignored") if event.fields.get("reason") == reason]
        return events[-1] if events else None

    def unmended(self, *names: str) -> BootEvent | None:
        """The newest event of these names, unless a file was fetched after it, or the boot has come to its end."""
        for event in reversed(self.attempt.events):
            if fetched(event) or event.event == "target":
                return None
            if event.event in names:
                return event
        return None

    def _told(self, name: str) -> str:
        told = self.attempt.last("offer", "boot_reply")
        return "" if told is None else str(told.fields.get(name, ""))


Judge: TypeAlias = Callable[[Case], Finding | None]


def text_of(event: BootEvent, name: str, default: str = "") -> str:
    """A field as text."""
    return str(event.fields.get(name, default)) or default


def number_of(event: BootEvent, name: str) -> int:
    """A field as a number, 0 where it is none."""
    value = event.fields.get(name, 0)
    return value if isinstance(value, int) else 0


def plain_name(name: str) -> str:
    """A file's name as it is compared: any case, any slashes."""
    return name.replace("\\", "/").lstrip("/").lower()
