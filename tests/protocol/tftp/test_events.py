# SPDX-License-Identifier: Apache-2.0
"""The words that leave a transfer for counters, logs and stories."""

from __future__ import annotations

from dpd.protocol.tftp.events import Finished, Verdict


def test_verdicts_are_the_labels_that_alerts_and_stories_know() -> None:
    assert {str(verdict) for verdict in Verdict} == {"completed", "probe", "aborted", "timeout", "refused"}


def test_a_completed_transfer_needs_no_reason() -> None:
    assert Finished(Verdict.COMPLETED) == Finished(Verdict.COMPLETED, "")
