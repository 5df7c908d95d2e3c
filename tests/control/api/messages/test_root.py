# SPDX-License-Identifier: Apache-2.0
"""Messages about roots are checked field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpd.control.api.messages.root import AddRootRequest, ChangeRootRequest


def test_what_is_not_given_stays() -> None:
    assert msgspec.convert({}, ChangeRootRequest) == ChangeRootRequest(None, None)
    assert msgspec.convert({"path": "/mnt/2"}, AddRootRequest) == AddRootRequest("/mnt/2", 0)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"path": "mnt"}, AddRootRequest),
        ({}, AddRootRequest),
        ({"path": "/x", "reserve_bytes": 1.5}, AddRootRequest),
        ({"path": "/x", "reserve_bytes": 2**60}, AddRootRequest),
        ({"active": "yes"}, ChangeRootRequest),
        ({"unknown": 1}, ChangeRootRequest),
    ],
)
def test_what_cannot_be_is_refused(message: dict[str, Any], kind: type) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(message, kind)
