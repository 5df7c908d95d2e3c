# SPDX-License-Identifier: Apache-2.0
"""The rules of the API's fields agree with those of the library, and have words where they are patterns."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.content.manifest import MAX_SOURCE_VERSION, PACKAGE_ID
from dpd.control.api.messages.message import EXPECTED, PackageParameters
from dpd.control.api.table import ROUTES


def accepts(value: object) -> bool:
    try:
        msgspec.convert({"package_id": value}, PackageParameters)
    except msgspec.ValidationError:
        return False
    return True


@given(st.text(max_size=70) | st.from_regex(PACKAGE_ID))
def test_a_package_id_is_right_here_where_it_is_right_in_the_library(text: str) -> None:
    assert accepts(text) == bool(PACKAGE_ID.fullmatch(text))


def test_the_highest_version_is_that_of_the_library() -> None:
    msgspec.convert({"package_id": "A", "source_version": MAX_SOURCE_VERSION}, PackageParameters)
    with pytest.raises(msgspec.ValidationError, match="<="):
        msgspec.convert({"package_id": "A", "source_version": MAX_SOURCE_VERSION + 1}, PackageParameters)


def test_every_pattern_has_words() -> None:
    requests = {each for route in ROUTES for each in (route.parameters, route.body) if each is not None}
    _, schemas = msgspec.json.schema_components(requests)
    with_pattern = {
        name
        for schema in schemas.values()
        for name, rule in schema.get("properties", {}).items()
        if any("pattern" in choice for choice in rule.get("anyOf", [rule]))
    }
    assert with_pattern == set(EXPECTED)
