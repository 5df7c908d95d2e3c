# SPDX-License-Identifier: Apache-2.0
"""What a request about the model may say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dpd.control.api.messages.model import (
    BoundaryRequest,
    CollectionChangeRequest,
    CollectionRequest,
    LookupParameters,
    MembersRequest,
    PointRequest,
)
from dpd.site.records import MemberKind


def test_what_is_left_out_has_its_default_or_stays() -> None:
    made = msgspec.convert({"name": "lab", "rules": [{"kind": "name", "value": "L-*"}]}, CollectionRequest)
    assert (made.computers, made.include, made.description, made.rules[0].kind) == ([], [], "", MemberKind.NAME)
    change = msgspec.convert({}, CollectionChangeRequest)
    assert (change.computers, change.rules, change.description, change.confirm) == (None, None, None, None)


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (CollectionRequest, {}),
        (CollectionRequest, {"name": ""}),
        (CollectionRequest, {"name": "x" * 64}),
        (CollectionRequest, {"name": "x", "rules": [{"kind": "ou", "value": "x"}]}),
        (CollectionRequest, {"name": "x", "rules": [{"kind": "name", "value": ""}]}),
        (CollectionRequest, {"name": "x", "computer": []}),
        (CollectionChangeRequest, {"confirm": -1}),
        (CollectionChangeRequest, {"name": "y"}),
        (MembersRequest, {"computers": []}),
        (BoundaryRequest, {"network": "10.0.0.0/8", "points": []}),
        (BoundaryRequest, {"network": "10.0.0.0/8"}),
        (PointRequest, {"name": "x", "groups": [""]}),
        (LookupParameters, {"address": ""}),
    ],
)
def test_what_cannot_be_is_refused(form: type, given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, form)
