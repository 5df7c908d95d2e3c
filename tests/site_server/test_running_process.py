# SPDX-License-Identifier: Apache-2.0
"""Whether a process has ended: certain, or not said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dpd.site_server.running_process import has_ended, sign_of_process


def test_a_process_that_runs_has_not_ended_and_one_that_was_waited_for_has() -> None:
    own = sign_of_process()
    assert own
    assert not has_ended(own, own)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        sign = sign_of_process(other.pid)
        assert not has_ended(sign, own)
        other.kill()
        other.wait()
    assert has_ended(sign, own)


def test_a_number_that_is_another_processs_by_now_does_not_speak_for_the_first() -> None:
    own = sign_of_process()
    place, _, _ = own.rpartition("-")
    assert has_ended(f"{place}-1", own)


@pytest.mark.parametrize("other", ["", "b00t-1-4194304-1", "no sign at all", "-"])
def test_nothing_is_said_of_other_hosts_and_of_what_is_no_sign(other: str) -> None:
    assert not has_ended(other, sign_of_process())
    assert not has_ended(other, "")


def test_nothing_is_said_of_another_namespace_of_process_ids() -> None:
    own = sign_of_process()
    boot, namespace, pid, started = own.rsplit("-", 3)
    assert not has_ended(f"{boot}-{int(namespace) + 1}-4194304-{started}", own)
    assert has_ended(f"{boot}-{namespace}-4194304-{started}", own)
    assert pid
