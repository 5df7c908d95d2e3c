# SPDX-License-Identifier: Apache-2.0
"""What a leaf node keeps for its points: mirrors of the hub's buckets, and the stream that the hub sources status from.

So points of a branch read policy and desired content, and store status, while the line to the hub is cut.
"""

from __future__ import annotations

import logging

from dpd.bus.link import Link
from dpd.bus.subjects import Subjects

log = logging.getLogger(__name__)

DUPLICATE_WINDOW_S = 600.0  # in which a status message that is sent again is known to JetStream
MAX_STATUS_BYTES = 1 << 30  # at the leaf, while the hub is away


async def ensure_edge(link: Link, subjects: Subjects, hub_domain: str) -> None:
    """Make what is missing in the leaf's domain; a second point of the branch may do so at the same time."""
    from nats.js import api

    mirror = api.ExternalStream(api=f"$JS.{hub_domain}.API")
    for bucket in subjects.buckets:
        name = f"KV_{bucket}"
        await _ensure(
            link,
            api.StreamConfig(
                name=name,
                mirror=api.StreamSource(name=name, external=mirror),
                max_msgs_per_subject=1,
                storage=api.StorageType.FILE,
                allow_direct=True,
            ),
        )
    await _ensure(
        link,
        api.StreamConfig(
            name=subjects.status_stream,
            subjects=[subjects.status("*", behind_leaf=True)],
            storage=api.StorageType.FILE,
            max_bytes=MAX_STATUS_BYTES,
            duplicate_window=DUPLICATE_WINDOW_S,
        ),
    )


async def _ensure(link: Link, config: object) -> None:
    from nats.js.api import StreamConfig
    from nats.js.errors import BadRequestError, NotFoundError

    assert isinstance(config, StreamConfig)
    assert config.name is not None
    try:
        await link.jetstream.stream_info(config.name)
        return
    except NotFoundError:
        pass
    try:
        await link.jetstream.add_stream(config)
        log.info("made on the leaf node", extra={"stream": config.name})
    except BadRequestError as error:
        if error.err_code != STREAM_NAME_IN_USE:  # another point was quicker
            raise


STREAM_NAME_IN_USE = 10058  # JSStreamNameExistErr
