# SPDX-License-Identifier: Apache-2.0
"""Processes that are to be killed, one after the other: each is forked from one that has imported everything, for an
interpreter of its own would take longer to begin than what is to be killed in it.

`python -m tests.prepared MODULE` reads lines of JSON lists from its standard input; for each it forks, calls the module's
`main` with them, and says `ended CODE` on a line of its own when that process has ended.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
KILLED = -signal.SIGKILL
BEGIN_S = 60.0


class Prepared:
    """`module` is one whose `main` takes texts, and says a line when it has begun."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.prepared", module],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)

    def run(self, *arguments: object, kill_after_s: float | None) -> list[str]:
        """The lines that it said until it ended, or until it was killed so long after the first of them."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(each) for each in arguments]).encode() + b"\n")
        said = [self._line()]
        assert not said[0].startswith("ended "), f"it has not begun, and {said[0]}"
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            self._process.stdin.write(b"kill\n")  # by who reaps it, so that nobody else has that number by then
        while not (line := self._line()).startswith("ended "):
            said.append(line)
        code = int(line.split()[1])
        assert code == 0 or (kill_after_s is not None and code == KILLED), f"it ended with {code}"
        return said

    def _line(self) -> str:
        """The next one that is not empty."""
        assert self._process.stdout is not None
        while True:
            while b"\n" not in self._rest:
                assert select.select([self._process.stdout], [], [], BEGIN_S)[0], "it says nothing"
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                assert piece, "who forks has ended"
                self._rest += piece
            line, _, self._rest = self._rest.partition(b"\n")
            if line:
                return line.decode()


def _serve(module: str) -> None:
    work = importlib.import_module(module).main
    while line := _read_line():
        if line == "kill\n":
            continue  # it had ended by itself
        pid = os.fork()
        if pid == 0:
            _be_child(work, json.loads(line))
        os.write(1, f"\nended {_wait(pid)}\n".encode())


def _wait(pid: int) -> int:
    """Until it has ended; killed at the next line of standard input."""
    handle = os.pidfd_open(pid)
    try:
        readable, _, _ = select.select([handle, 0], [], [])
        if 0 in readable:
            _read_line()
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(handle)


def _read_line() -> str:
    """Byte by byte, so that nothing is taken that belongs to a later question; "" at the end."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode()


def _be_child(work: object, arguments: list[str]) -> None:
    code = 0
    try:
        assert callable(work)
        work(*arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
