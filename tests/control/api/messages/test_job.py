# SPDX-License-Identifier: Apache-2.0
"""Requests about jobs: the closed lists agree with those of distribution."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.job import EndedState, JobRequest, PackageVerb
from dpd.distribution.jobs.job import OPEN, JobKind, JobState, Priority


def test_every_verb_is_a_kind_and_every_end_a_state() -> None:
    assert {verb.value for verb in PackageVerb} <= {kind.value for kind in JobKind}
    assert {state.value for state in EndedState} == {state.value for state in JobState if state not in OPEN}


def test_defaults_and_unknown_fields() -> None:
    request = msgspec.json.decode(b'{"kind": "update", "package_id": "A"}', type=JobRequest)
    assert (request.priority, request.source_version) == (Priority.NORMAL, None)
    with pytest.raises(msgspec.ValidationError, match="unknown field `pakage_id`"):
        msgspec.json.decode(b'{"kind": "update", "pakage_id": "A"}', type=JobRequest)
