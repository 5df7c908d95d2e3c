# SPDX-License-Identifier: Apache-2.0
"""What the site server's API takes and gives."""

from __future__ import annotations

import msgspec
import pytest

from dpd.site_server.messages import AssignmentRequest, PointAnswer


@pytest.mark.parametrize("target", ["dp:hq", "group:all", "group:north-1"])
def test_a_target_is_a_point_or_a_group(target: str) -> None:
    body = msgspec.json.encode({"target": target, "package_id": "LAB"})
    assert msgspec.json.decode(body, type=AssignmentRequest).target == target


@pytest.mark.parametrize("target", ["hq", "dp:", "group:a b", "dp:hq\n", "site:hq", "dp:../x"])
def test_anything_else_is_refused(target: str) -> None:
    body = msgspec.json.encode({"target": target, "package_id": "LAB"})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=AssignmentRequest)


def test_an_answer_shows_either_reply_or_error() -> None:
    assert msgspec.to_builtins(PointAnswer("hq", 200, {"a": 1})) == {"point": "hq", "status": 200, "reply": {"a": 1}}
