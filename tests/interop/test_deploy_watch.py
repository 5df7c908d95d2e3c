# SPDX-License-Identifier: Apache-2.0
"""Six machines go through a task sequence at a running daemon that is killed in the middle, by the target's own client: nothing
that was said is lost or counts twice, `dpd deploy watch` shows all of it, one fails and leaves its log, one is cancelled, one is
captured by an upload that breaks off."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from tests.content.wim_builder import make_wim
from tests.interop.test_target_door import Point, point

from dpd.cli.client import Client
from dpd.sequence.exchange import CaptureWish, Receipt, Report, StepState
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.distribution_point.desk import Desk

__all__ = ["point"]

PATIENCE_S = 120.0
SEQUENCE = """
name = "lab"
[[step]]
name = "Check"
do = "check_readiness"
minimum_cpus = 1
[[step]]
name = "Prepare"
do = "run_command_line"
command = "true"
[[step]]
name = "Capture"
do = "capture_image"
volume = "/dev/sda2"
package_id = "CAP00001"
"""
BEFORE, ALL = 15, 30  # reports of a machine: before dpd is killed, and until it is done
WORKING = 4  # machines that work while it is

_T = TypeVar("_T")


class Machine:
    """One target: what it said is numbered, and said until it is confirmed."""

    def __init__(self, point: Point, number: int) -> None:
        self.name = f"PC-{number}"
        self.said: list[Report] = []
        mac = f"52:54:00:00:00:{number:02x}"
        told = point.boot(mac)
        self.desk = Desk(told["dpd.server"], point.ca_file)
        welcome = point.hello(self.desk, told["dpd.proof"], mac=mac)
        assert welcome.computer == self.name
        self.execution = self.desk.take(welcome.offers[0].deployment).execution

    def say(self, step: str, state: StepState, message: str = "") -> Receipt:
        """All that was not confirmed yet goes with it, as the target's own queue does."""
        self.said.append(Report(len(self.said) + 1, time.time(), step, state, message))
        return persistently(self._send)

    def _send(self) -> Receipt:
        receipt = self.desk.report(self.execution, tuple(self.said[-3:]))
        assert receipt.next == len(self.said) + 1
        return receipt

    def progress(self, done_bytes: int) -> None:
        """May be lost."""
        report = Report(0, time.time(), "2", StepState.PROGRESS, "by multicast", done_bytes, 1000, 8_000_000)
        persistently(lambda: self.desk.report(self.execution, (report,)))


def persistently(ask: Callable[[], _T]) -> _T:
    """Until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except Unreachable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


class Kill:
    """Comes when all are half way; nobody comes to an end before."""

    def __init__(self) -> None:
        self.is_due = threading.Barrier(WORKING + 1)
        self.is_done = threading.Event()

    def await_half_way(self) -> None:
        self.is_due.wait(PATIENCE_S)


def work(machine: Machine, kill: Kill) -> None:
    """A step of many reports, half of them before the kill, and then the end."""
    machine.say("1", StepState.STARTED)
    machine.say("1", StepState.DONE)
    machine.say("2", StepState.STARTED)
    while len(machine.said) < ALL - 2:
        machine.say("2", StepState.PROGRESS, f"word {len(machine.said)}")
        machine.progress(10 * len(machine.said))
        if len(machine.said) == BEFORE:
            kill.await_half_way()
        if len(machine.said) == ALL - 3:
            assert kill.is_done.wait(PATIENCE_S)
    machine.say("2", StepState.DONE)
    machine.say("", StepState.SEQUENCE_DONE)


def capture(machine: Machine, image: bytes, kill: Kill) -> tuple[str, int]:
    """In pieces, each asked for where the last one is known to have come."""
    wish = CaptureWish(machine.execution, "CAP00001", len(image))
    place = persistently(lambda: machine.desk.begin_capture(wish))
    offset, step, was_half_way = place.offset, len(image) // 40, False
    while offset < len(image):
        try:
            offset = machine.desk.put_capture(place.capture, image[offset : offset + step], offset, len(image))
        except Unreachable:
            place = persistently(lambda: machine.desk.begin_capture(wish))
            offset = place.offset
        if offset >= len(image) // 2 and not was_half_way:
            was_half_way = True
            kill.await_half_way()
        if offset >= len(image) - 2 * step:
            assert kill.is_done.wait(PATIENCE_S)
    captured = persistently(lambda: machine.desk.finish_capture(place.capture, hashlib.sha256(image).hexdigest()))
    machine.say("", StepState.SEQUENCE_DONE)
    return captured.package_id, captured.source_version


class Watch:
    """`dpd deploy watch` as a process of its own, and what it has shown."""

    def __init__(self, point: Point) -> None:
        command = [sys.executable, "-m", "dpd", "deploy", "watch", "--until-done", "--json"]
        command += ["--socket", point.daemon.control_socket]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.shown: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Watch:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._reader.join()
        self.process.communicate()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.shown.append(json.loads(line))
                self._changed.notify_all()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until it has shown such a change."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.shown)), PATIENCE_S), self.shown

    def wait_ended(self) -> int:
        """The exit code, with all shown."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


def deployed(point: Point, folder: Path) -> None:
    """Six computers, each to be deployed."""
    files = "--kernel", folder / "vmlinuz", "--initrd", folder / "initrd.img"
    point.dpd("boot-image", "add", *files, "--id", "LINUX1")
    (folder / "lab.toml").write_text(SEQUENCE)
    assert "lab@1: published" in point.dpd("sequence", "publish", folder / "lab.toml")
    for number in range(1, 7):
        point.api.post("computers", body={"name": f"PC-{number}", "macs": [f"52:54:00:00:00:{number:02x}"]})
    point.api.post("deployments", body={"target": "all", "boot_image": "LINUX1", "purpose": "required", "sequence": "lab", "confirm": 6})  # fmt: skip


def messages(api: Client, event: str) -> list[dict[str, Any]]:
    found = api.get("messages", after="0", limit=1000)["messages"]
    return [each for each in found if each["event"] == event]


def test_machines_are_watched_through_a_kill_of_dpd_and_nothing_said_is_lost_or_counts_twice(
    point: Point, tmp_path: Path
) -> None:
    image = make_wim(resources=(random.Random(1).randbytes(3 << 20),), chunk_bytes=0)
    kill = Kill()
    with ThreadPoolExecutor(WORKING) as threads, ExitStack() as stack:
        with point.daemon.ready():
            deployed(point, tmp_path)
            machines = [Machine(point, number) for number in range(1, 7)]
            watch = stack.enter_context(Watch(point))
            running = [threads.submit(work, machine, kill) for machine in machines[:3]]
            capturing = threads.submit(capture, machines[3], image, kill)
            _fail(machines[4], "grub-install: no EFI partition")
            _cancel(point, machines[5])
            watch.wait_for(lambda shown: shown["done_bytes"] and shown["rate_bit_s"] == 8_000_000)
            kill.await_half_way()
            point.daemon.signal(signal.SIGKILL)
            point.daemon.wait_ended()
            kill.is_done.set()
        with point.daemon.ready():
            for each in running:
                each.result(PATIENCE_S)
            assert capturing.result(PATIENCE_S) == ("CAP00001", 1)
            assert watch.wait_ended() == 1  # not all were done
            _look(point, machines, watch.shown)
            assert point.api.get("content", "CAP00001")["sha256"] == hashlib.sha256(image).hexdigest()
    for machine in machines:
        machine.desk.close()


def _fail(machine: Machine, why: str) -> None:
    machine.say("2", StepState.STARTED)
    machine.say("2", StepState.FAILED, why)
    machine.desk.put_log(machine.execution, b"x" * (5 << 20) + f"\nstep 2: {why}\n".encode())
    machine.say("", StepState.SEQUENCE_FAILED)


def _cancel(point: Point, machine: Machine) -> None:
    assert machine.say("2", StepState.STARTED).cancel == ""
    assert "is told to stop: moved" in point.dpd("deploy", "cancel", machine.name, "--reason", "moved")
    assert machine.desk.report(machine.execution, ()).cancel == "moved"
    assert machine.say("", StepState.CANCELLED).cancel == ""


def _look(point: Point, machines: list[Machine], shown: list[dict[str, Any]]) -> None:
    """The book, the watch, the messages and the log tell the same."""
    ends = ["done", "done", "done", "done", "failed", "cancelled"]
    assert [point.api.get("executions", each.execution)["execution"]["state"] for each in machines] == ends
    for machine in machines:
        kept = point.api.get("executions", machine.execution, "reports")["reports"]
        assert [(each["number"], each["state"], each["message"]) for each in kept] == [
            (each.number, each.state, each.message) for each in machine.said
        ]
    last = {each["computer"]: each["state"] for each in shown}
    assert last == dict(zip((each.name for each in machines), ends, strict=True))
    done = [each["fields"]["computer"] for each in messages(point.api, "deployment.done")]
    assert sorted(done) == ["PC-1", "PC-2", "PC-3", "PC-4"]
    (failed,) = messages(point.api, "deployment.failed")
    assert "PC-5" in failed["text"]
    assert "no EFI partition" in failed["text"]
    assert f"`dpd deploy log {machines[4].execution}` shows its log." in failed["text"]
    log = point.dpd("deploy", "log", "PC-5")
    assert len(log) == 4 << 20  # its end
    assert log.endswith("x\nstep 2: grub-install: no EFI partition\n")
    assert len(messages(point.api, "deployment.captured")) == 1
