# SPDX-License-Identifier: Apache-2.0
"""Programs of the deployment environment, run so that they can be ended at any moment and leave nothing behind."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpd.errors import DpdError
from dpd.target.work.execution_log import ExecutionLog

POLL_S = 0.2
END_S = 5.0  # from SIGTERM to SIGKILL
KEPT_LINES = 200
TOLD_LINES = 3
_BREAK = re.compile(r"[\r\n]")


class ProgramFailed(DpdError):
    """A program ended with an exit code that is no success, or is not there."""

    def __init__(self, message: str, code: int = 127) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: the latest lines of its standard output."""

    code: int
    lines: tuple[str, ...]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


class Programs:
    """Runs programs into a log; `check` is called a few times a second and may raise to end the program and all that it began."""

    def __init__(self, log: ExecutionLog, check: Callable[[], object] = lambda: None) -> None:
        self._log = log
        self._check = check

    def run(
        self,
        *command: str | Path,
        given: bytes = b"",
        feed: Iterator[bytes | memoryview] | None = None,
        environment: Mapping[str, str] | None = None,
        folder: str | Path | None = None,
        success_codes: Collection[int] = (0,),
        on_line: Callable[[str], object] | None = None,
        told: str = "",
    ) -> Ran:
        """Run it to its end. `given` or `feed` becomes its standard input, `on_line` gets each line, also those that end in a carriage
        return; `told` stands in the log instead of the command. Raises ProgramFailed, what `check` and `feed` raise."""
        words = [str(word) for word in command]
        if "/" not in words[0] and shutil.which(words[0]) is None:
            raise ProgramFailed(f"{words[0]}: is not in this deployment environment; add it to the boot image")
        self._log.write(f"  $ {told or _shown(words)}")
        process = self._start(words, given, feed, environment, folder)
        reading = _Reading(process, self._log, on_line)
        try:
            with process:
                self._pump(process, reading, feed if feed is not None else iter([given] if given else []))
        finally:
            reading.close()
        if process.returncode not in success_codes:
            raise ProgramFailed(_failure(words[0], process.returncode, reading.kept), process.returncode)
        return Ran(process.returncode, tuple(reading.output))

    def _start(
        self,
        words: Sequence[str],
        given: bytes,
        feed: object,
        environment: Mapping[str, str] | None,
        folder: str | Path | None,
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE if given or feed is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment) if environment is not None else None,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            place = f" in {folder}" if folder else ""
            raise ProgramFailed(f"{words[0]}: cannot be started{place}: {error.strerror}") from None

    def _pump(self, process: subprocess.Popen[bytes], reading: _Reading, feed: Iterator[bytes | memoryview]) -> None:
        try:
            for piece in feed:
                if not self._write(process, reading, memoryview(piece)):
                    break
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            while reading.take(POLL_S):
                self._check()
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                    return
                self._check()
        except BaseException:
            end_group(process)
            raise

    def _write(self, process: subprocess.Popen[bytes], reading: _Reading, piece: memoryview) -> bool:
        """False where the program wants no more."""
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        os.set_blocking(descriptor, False)
        while piece:
            self._check()
            try:
                piece = piece[os.write(descriptor, piece[: 1 << 20]) :]
            except BlockingIOError:
                if not reading.take(0.02):
                    return False
            except BrokenPipeError:
                return False
        reading.take(0.0)
        return True


class _Stream:
    """One of the two that a program writes to, cut into lines."""

    def __init__(self, descriptor: int, kept: list[str]) -> None:
        self.descriptor = descriptor
        self.kept = kept
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def take(self, data: bytes) -> Iterator[tuple[str, bool]]:
        """(line, whether it is to be drawn over); without data the last one."""
        self._rest += self._decoder.decode(data, final=not data)
        while match := _BREAK.search(self._rest):
            line, self._rest = self._rest[: match.start()], self._rest[match.end() :]
            yield line, match.group() == "\r"
        if not data and self._rest:
            yield self._rest, False
            self._rest = ""


class _Reading:
    """What a program says, line by line. `output` is of its standard output, `kept` of both."""

    def __init__(
        self, process: subprocess.Popen[bytes], log: ExecutionLog, on_line: Callable[[str], object] | None
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.kept: list[str] = []
        self.output: list[str] = []
        self._process = process
        self._log = log
        self._on_line = on_line
        self._selector = selectors.DefaultSelector()
        for pipe, kept in ((process.stdout, self.output), (process.stderr, [])):
            self._selector.register(pipe, selectors.EVENT_READ, _Stream(pipe.fileno(), kept))

    def take(self, wait_s: float) -> bool:
        """Read what there is within that time. False: nothing will come any more."""
        ready = self._selector.select(wait_s)
        if not ready:
            # A service that the program left behind keeps its output open; the program itself is what counts.
            return self._process.poll() is None
        for key, _ in ready:
            stream: _Stream = key.data
            data = os.read(stream.descriptor, 1 << 16)
            for line, is_drawn_over in stream.take(data):
                self._line(stream, line, is_drawn_over)
            if not data:
                self._selector.unregister(key.fileobj)
        return bool(self._selector.get_map())

    def close(self) -> None:
        self._selector.close()

    def _line(self, stream: _Stream, line: str, is_drawn_over: bool) -> None:
        if not line.strip():
            return
        if self._on_line is not None:
            self._on_line(line)
        if is_drawn_over:  # a bar that is drawn anew fifty times a second
            return
        for kept in (stream.kept, self.kept):
            kept.append(line)
            del kept[:-KEPT_LINES]
        self._log.write(f"    {line}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started."""
    for number, wait_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        until = time.monotonic() + wait_s
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if process.poll() is not None and number == signal.SIGKILL:
            return


def _shown(words: Sequence[str]) -> str:
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./-]+", word) else repr(word) for word in words)


def _failure(name: str, code: int, lines: Sequence[str]) -> str:
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    said = "; ".join(line.strip() for line in lines[-TOLD_LINES:])
    return f"{Path(name).name} {how}" + (f": {said}" if said else "")
