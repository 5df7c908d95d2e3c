# SPDX-License-Identifier: Apache-2.0
"""Programs of the deployment environment: what they say, how they fail, and that they end when they are to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.program import ProgramFailed, Programs

PATIENCE_S = 60.0


class Ended(Exception):
    """Raised by a check."""


def programs(home: Path, ending: threading.Event | None = None) -> Programs:
    def check() -> None:
        if ending is not None and ending.is_set():
            raise Ended

    return Programs(ExecutionLog(home / "log", lambda text: text), check)


def test_output_is_standard_output_alone_and_the_log_has_both(tmp_path: Path) -> None:
    ran = programs(tmp_path).run("sh", "-c", "echo out; echo err >&2; echo more")
    assert ran.output == "out\nmore"
    log = (tmp_path / "log").read_text()
    assert "$ sh -c 'echo out; echo err >&2; echo more'" in log
    assert "    err" in log


def test_a_failure_names_the_program_its_code_and_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"^sh ended with exit code 3: no such thing$") as failure:
        programs(tmp_path).run("sh", "-c", "echo no such thing >&2; exit 3")
    assert failure.value.code == 3


def test_other_codes_may_be_success(tmp_path: Path) -> None:
    assert programs(tmp_path).run("sh", "-c", "exit 3", success_codes=(0, 3)).code == 3


def test_a_program_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ProgramFailed, match="nonesuch: is not in this deployment environment; add it to the boot image"
    ):
        programs(tmp_path).run("nonesuch")


def test_what_is_given_arrives(tmp_path: Path) -> None:
    assert programs(tmp_path).run("cat", given=b"hello\n").output == "hello"


def test_what_is_fed_arrives_however_much(tmp_path: Path) -> None:
    piece = b"x" * (1 << 20)
    assert programs(tmp_path).run("wc", "-c", feed=iter([piece] * 20)).output.strip() == str(20 << 20)


def test_a_program_that_takes_no_more_of_its_feed_is_judged_by_its_end(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="exit code 5"):
        programs(tmp_path).run("sh", "-c", "exit 5", feed=iter([b"x" * (1 << 20)] * 50))


def test_a_feed_that_fails_ends_the_program(tmp_path: Path) -> None:
    def feed() -> Iterator[bytes]:
        until = time.monotonic() + PATIENCE_S
        while not (tmp_path / "pid").exists():
            yield b"x"
            assert time.monotonic() < until
            time.sleep(0.02)
        raise Ended

    with pytest.raises(Ended):
        programs(tmp_path).run("sh", "-c", f"echo $$ > {tmp_path}/pid; cat", feed=feed())
    wait_until_gone(tmp_path / "pid")


def test_a_check_that_raises_ends_the_program_and_all_that_it_began(tmp_path: Path) -> None:
    ending = threading.Event()

    def on_line(line: str) -> None:
        ending.set()

    script = f"sleep 1000 & echo $! > {tmp_path}/pid; trap '' TERM; echo ready; wait; sleep 1000"
    with pytest.raises(Ended):
        programs(tmp_path, ending).run("sh", "-c", script, on_line=on_line)
    wait_until_gone(tmp_path / "pid")


def test_progress_is_told_and_not_logged(tmp_path: Path) -> None:
    seen: list[str] = []
    programs(tmp_path).run("printf", "1 of 3\\r2 of 3\\r3 of 3\\ndone\\n", on_line=seen.append)
    assert seen == ["1 of 3", "2 of 3", "3 of 3", "done"]
    assert "2 of 3" not in (tmp_path / "log").read_text().partition("\n")[2]


def test_a_service_left_behind_holds_nobody(tmp_path: Path) -> None:
    programs(tmp_path).run("sh", "-c", f"setsid sleep 1000 & echo $! > {tmp_path}/pid; exit 0")
    os.kill(int((tmp_path / "pid").read_text()), 9)


def wait_until_gone(place: Path) -> None:
    """Gone, or about to be buried by whoever adopted it."""
    pid = place.read_text().strip()
    until = time.monotonic() + PATIENCE_S
    while (status := Path(f"/proc/{pid}/stat")).exists():
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        assert time.monotonic() < until
        time.sleep(0.05)
