# SPDX-License-Identifier: Apache-2.0
"""Which names and versions of task sequences the API takes."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.sequence import PublishSequenceParameters, RemoveSequenceParameters, SequenceParameters


@pytest.mark.parametrize("name", ["debian", "Win-11_x64.de", "a" * 50])
def test_a_name_as_documents_have_it(name: str) -> None:
    assert msgspec.convert({"sequence": name}, SequenceParameters) == SequenceParameters(name, 0)


@pytest.mark.parametrize("name", ["", "a" * 51, "a b", "../x", "debian@3", "a\n", 5])
def test_any_other_is_refused(name: object) -> None:
    for kind in (SequenceParameters, RemoveSequenceParameters):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"sequence": name}, kind)


@pytest.mark.parametrize("version", [-1, 2**31, 1.5, "1"])
def test_a_version_out_of_its_range_is_refused(version: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"version": version}, PublishSequenceParameters)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sequence": "a", "version": version}, SequenceParameters)
