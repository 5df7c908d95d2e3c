# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about status messages."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from dpd.control.operations.message import Page, Position
from dpd.telemetry.status_messages import Severity, StatusMessage

PositionText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=60,
        description="Behind which message: the `position` or event id of an earlier reply; 0 is the beginning",
    ),
]
AtLeast = Annotated[Severity, Meta(description="Only messages at least as severe")]


class MessageParameters(Struct, forbid_unknown_fields=True):
    """The messages behind `after`, oldest first; without it the newest `limit`."""

    after: PositionText | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    severity: AtLeast = Severity.INFO


class StreamParameters(Struct, forbid_unknown_fields=True):
    """From behind `after`, which the header Last-Event-ID overrules; without either, from now on."""

    after: PositionText | None = None
    severity: AtLeast = Severity.INFO


class StateParameters(Struct, forbid_unknown_fields=True):
    """At most so many packages, in their order, and machines, the newest; /v1/packages and /v1/pxe/boots have all."""

    packages: Annotated[int, Meta(ge=0, le=1000)] = 200
    machines: Annotated[int, Meta(ge=1, le=500)] = 50


class MessageReply(Struct):
    """One status message; `text` is its sentence. `position` is to be given back to go on behind it."""

    position: str
    sequence: int
    at: float
    event: str
    message_id: int
    severity: Severity
    text: str
    fields: dict[str, Any]


class MissedReply(Struct):
    """Sequences that made room for newer ones before they could be told."""

    first: int
    last: int


class MessageList(Struct):
    """`position` is what to give as `after` the next time. `missed` is there where messages behind `after` are gone."""

    messages: list[MessageReply]
    position: str
    missed: MissedReply | None = None


def reply_of(message: StatusMessage, epoch: str) -> MessageReply:
    """A message as the API tells it."""
    return MessageReply(
        str(Position(epoch, message.sequence)),
        message.sequence,
        message.at,
        message.event,
        message.message_id,
        message.severity,
        message.text,
        dict(message.fields),
    )


def list_of(page: Page) -> MessageList:
    """A page as the API tells it."""
    missed = MissedReply(*page.missed) if page.missed else None
    return MessageList([reply_of(each, page.position.epoch) for each in page.messages], str(page.position), missed)
