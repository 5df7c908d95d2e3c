# SPDX-License-Identifier: Apache-2.0
"""Variables over the control API: what a request may say."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.variable import VariableRequest


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"target": "all", "name": "Zone"}, "value"),
        ({"target": "all", "name": "", "value": "x"}, "length >= 1"),
        ({"target": "all", "name": "n" * 257, "value": "x"}, "length <= 256"),
        ({"target": "all", "name": "Zone", "value": "x" * 4001}, "length <= 4000"),
        ({"target": "all", "name": "Zone", "value": "x", "hidden": True}, "hidden"),
    ],
)
def test_what_a_request_may_not_say_is_told(body: dict[str, object], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.json.decode(msgspec.json.encode(body), type=VariableRequest)
