# SPDX-License-Identifier: Apache-2.0
"""Which names of sources the API takes."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.source import SourceParameters


@pytest.mark.parametrize("name", ["hq", "A.b_c-1", "x" * 64])
def test_a_name_as_the_settings_allow_it(name: str) -> None:
    assert msgspec.convert({"source": name}, SourceParameters).source == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "../x", "hq\n", 5])
def test_any_other_is_refused(name: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"source": name}, SourceParameters)
