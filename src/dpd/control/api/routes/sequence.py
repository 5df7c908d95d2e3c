# SPDX-License-Identifier: Apache-2.0
"""The API's routes to task sequences."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from dpd.control.access.actor import actor_of
from dpd.control.access.callers import Role
from dpd.control.api.body_text import read_text
from dpd.control.api.messages.sequence import (
    PublishSequenceParameters,
    RemoveSequenceParameters,
    SequenceList,
    SequenceParameters,
    SequencesRemoved,
    SequenceText,
)
from dpd.control.api.openapi import Route
from dpd.control.operations.sequence import SequenceCheck, SequenceDetails, SequenceOperations, SequencePublished
from dpd.sequence.document import MAX_DOCUMENT_BYTES

TOML = "application/toml"


class Asked(Protocol):
    """What the handlers need of the API."""

    @property
    def sequences(self) -> SequenceOperations: ...


async def list_sequences(api: Asked, request: web.Request, parameters: None, body: None) -> SequenceList:
    return SequenceList(await api.sequences.newest())


async def show_sequence(
    api: Asked, request: web.Request, parameters: SequenceParameters, body: None
) -> SequenceDetails:
    return await api.sequences.show(parameters.sequence, parameters.version)


async def export_sequence(api: Asked, request: web.Request, parameters: SequenceParameters, body: None) -> SequenceText:
    found = await api.sequences.find(parameters.sequence, parameters.version)
    return SequenceText(found.version.name, found.version.version, found.text, found.document)


async def check_document(api: Asked, request: web.Request, parameters: None, body: None) -> SequenceCheck:
    return await api.sequences.check(await read_text(request, MAX_DOCUMENT_BYTES, "put large files into a package"))


async def publish_sequence(
    api: Asked, request: web.Request, parameters: PublishSequenceParameters, body: None
) -> SequencePublished:
    text = await read_text(request, MAX_DOCUMENT_BYTES, "put large files into a package")
    return await api.sequences.publish(text, parameters.version, actor_of(request))


async def remove_sequence(
    api: Asked, request: web.Request, parameters: RemoveSequenceParameters, body: None
) -> SequencesRemoved:
    return SequencesRemoved(await api.sequences.remove(parameters.sequence, parameters.version, actor_of(request)))


_MISSING, _CONFLICT = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
_BUSY = HTTPStatus.SERVICE_UNAVAILABLE

ROUTES = (
    Route(
        "GET",
        "/v1/sequences",
        "Every task sequence in its newest version, by name",
        list_sequences,
        SequenceList,
        refusals=(_BUSY,),
    ),
    Route(
        "POST",
        "/v1/sequences",
        "Publish a document (TOML) as a new version of its task sequence; the same text as the newest's changes nothing",
        publish_sequence,
        SequencePublished,
        parameters=PublishSequenceParameters,
        upload_type=TOML,
        refusals=(_CONFLICT, _BUSY),
        role=Role.ADMIN,
    ),
    Route(
        "POST",
        "/v1/sequences/check",
        "What publishing a document (TOML) would say: what it is made of, and all that is wrong, line by line",
        check_document,
        SequenceCheck,
        upload_type=TOML,
        refusals=(_BUSY,),
    ),
    Route(
        "GET",
        "/v1/sequences/{sequence}",
        "One version of a task sequence: its steps, what it needs, and who deploys it",
        show_sequence,
        SequenceDetails,
        parameters=SequenceParameters,
        refusals=(_MISSING, _BUSY),
    ),
    Route(
        "GET",
        "/v1/sequences/{sequence}/text",
        "One version as it was written, and as it was signed; scripts in it may hold what viewers are not to see",
        export_sequence,
        SequenceText,
        parameters=SequenceParameters,
        refusals=(_MISSING, _BUSY),
        role=Role.OPERATOR,
    ),
    Route(
        "DELETE",
        "/v1/sequences/{sequence}",
        "Take out one version, or all of them; refused while a deployment names what would go",
        remove_sequence,
        SequencesRemoved,
        parameters=RemoveSequenceParameters,
        refusals=(_MISSING, _CONFLICT, _BUSY),
        role=Role.ADMIN,
    ),
)
