# SPDX-License-Identifier: Apache-2.0
"""What the parameters of declarations may be."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.declaration import ApplyParameters, ExportParameters


def test_the_version_of_the_plan_must_be_given() -> None:
    assert msgspec.convert({"policy_version": "7", "confirm": "12"}, ApplyParameters, strict=False) == ApplyParameters(
        7, 12
    )
    with pytest.raises(msgspec.ValidationError, match="policy_version"):
        msgspec.convert({}, ApplyParameters, strict=False)
    with pytest.raises(msgspec.ValidationError, match="confirm"):
        msgspec.convert({"policy_version": "7", "confirm": "-1"}, ApplyParameters, strict=False)


@pytest.mark.parametrize("kinds", ["", "computer", "computer,rule"])
def test_kinds_are_named_with_commas(kinds: str) -> None:
    assert msgspec.convert({"kinds": kinds}, ExportParameters).kinds == kinds


@pytest.mark.parametrize("kinds", ["computers", "computer,", ",", "computer rule", "rule\n"])
def test_what_is_no_kind_is_refused(kinds: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="kinds"):
        msgspec.convert({"kinds": kinds}, ExportParameters)
