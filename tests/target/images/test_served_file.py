# SPDX-License-Identifier: Apache-2.0
"""A file whose bytes come later, as programs meet it: by their system calls. Never by those of this process, which is the one that
answers them: ended in the middle it would wait for itself.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpd.target.images import served_file
from dpd.target.images.served_file import NotServable, ServedFile

MIB = 1 << 20
CONTENT = os.urandom(5 * MIB + 123)
PATIENCE_S = 30.0


class Growing:
    """Bytes up to `have`; an error instead where one is set."""

    size_bytes = len(CONTENT)

    def __init__(self) -> None:
        self.have = 0
        self.error = 0

    def read(self, offset: int, size_bytes: int) -> bytes | None:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        end = offset + size_bytes
        return CONTENT[offset:end] if end <= self.have else None


@pytest.fixture
def source() -> Growing:
    return Growing()


@pytest.fixture
def served(tmp_path: Path, source: Growing) -> Iterator[ServedFile]:
    if os.geteuid() != 0 or not served_file.DEVICE.exists():
        pytest.skip(f"missing: root or {served_file.DEVICE}")
    served = ServedFile(tmp_path / "a folder" / "file", source)
    yield served
    if not served._is_ending:
        served.close()


def reading(place: Path, offset: int = 0) -> subprocess.Popen[bytes]:
    """A process that reads the rest of it from there."""
    program = "import sys; f = open(sys.argv[1], 'rb'); f.seek(int(sys.argv[2])); sys.stdout.buffer.write(f.read())"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(place), str(offset)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_a_read_waits_for_its_bytes_and_others_pass_it(served: ServedFile, source: Growing) -> None:
    source.have = 2 * MIB
    behind = reading(served.place, 3 * MIB)
    until(lambda: served._waiting)
    told = subprocess.run(["stat", "-c", "%s", served.place], capture_output=True, timeout=PATIENCE_S, check=True)
    assert int(told.stdout) == len(CONTENT)
    before = subprocess.run(
        ["dd", f"if={served.place}", "bs=1M", "skip=1", "count=1"], capture_output=True, timeout=PATIENCE_S, check=True
    )
    assert before.stdout == CONTENT[MIB : 2 * MIB]
    assert behind.poll() is None
    source.have = len(CONTENT)
    served.look_again()
    out, _ = behind.communicate(timeout=PATIENCE_S)
    assert out == CONTENT[3 * MIB :]


def test_nobody_writes_it(served: ServedFile) -> None:
    ran = subprocess.run(["truncate", "-s", "0", served.place], capture_output=True, timeout=PATIENCE_S, check=False)
    assert b"Read-only file system" in ran.stderr


def test_the_errors_of_the_source_are_the_programs(served: ServedFile, source: Growing) -> None:
    waiting = reading(served.place)
    until(lambda: served._waiting)
    source.error = errno.EIO
    served.look_again()
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert b"Input/output error" in said


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_program_that_waits_can_be_ended(served: ServedFile, end: str) -> None:
    waiting = reading(served.place)
    until(lambda: served._waiting)
    getattr(waiting, end)()
    assert waiting.wait(PATIENCE_S) < 0
    until(lambda: not served._waiting)
    waiting.communicate()


def test_closed_in_the_middle_it_leaves_nobody_waiting_and_nothing_behind(served: ServedFile) -> None:
    waiting = reading(served.place)
    until(lambda: served._waiting)
    served.close()
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert b"OSError" in said or b"ConnectionAbortedError" in said
    assert not served.place.exists()
    assert str(served.place) not in Path("/proc/self/mounts").read_text()


def test_who_is_killed_leaves_a_place_that_can_be_taken_again(tmp_path: Path, source: Growing) -> None:
    if os.geteuid() != 0 or not served_file.DEVICE.exists():
        pytest.skip(f"missing: root or {served_file.DEVICE}")
    place = tmp_path / "file"
    program = (
        "import sys, time, pathlib\n"
        "from dpd.target.images.served_file import ServedFile\n"
        "class Never:\n"
        "    size_bytes = 1 << 20\n"
        "    def read(self, offset, size_bytes): return None\n"
        "served = ServedFile(pathlib.Path(sys.argv[1]), Never())\n"
        "while not served._waiting: time.sleep(0.01)\n"
        "print('waits', flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(place)], stdout=subprocess.PIPE)
    until(lambda: str(place) in Path("/proc/self/mounts").read_text())
    waiting = reading(place)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"waits\n"
    owner.kill()
    owner.communicate()
    waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 1
    source.have = len(CONTENT)
    served = ServedFile(place, source)
    try:
        out, _ = reading(place).communicate(timeout=PATIENCE_S)
        assert out == CONTENT
    finally:
        served.close()


def test_a_machine_without_fuse_is_told(tmp_path: Path, source: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_file, "DEVICE", tmp_path / "none")
    with pytest.raises(NotServable, match="none: No such file or directory"):
        ServedFile(tmp_path / "file", source)
