# SPDX-License-Identifier: Apache-2.0
"""What is checked of a request about bundles before anybody sees it."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.bundle import ExportParameters, ExportRequest, ImportRequest


def test_everything_may_be_left_out_of_an_export() -> None:
    assert msgspec.convert({}, ExportParameters).packages == ""
    assert msgspec.json.decode(b"{}", type=ExportRequest) == ExportRequest("", "", "", "")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'{"key": "00"}', "missing required field `path`"),
        (b'{"path": "/a", "force": true}', "unknown field `force`"),
        (b'{"path": "%b"}' % (b"/" * 4096), "length <= 4095"),
        (b'{"path": "/a", "key": "%b"}' % (b"0" * 65), "length <= 64"),
    ],
)
def test_what_is_no_import_is_refused(document: bytes, words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.json.decode(document, type=ImportRequest)
