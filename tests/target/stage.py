# SPDX-License-Identifier: Apache-2.0
"""A machine being deployed as its steps meet it: a disk on a loop device, a work folder, a site that is played by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest

from dpd.errors import DpdError
from dpd.sequence.document import read_document
from dpd.sequence.exchange import Captured, CapturePlace, CaptureWish, Receipt, Report, StepState
from dpd.sequence.records import Disk, Facts, Step, TaskSequence
from dpd.sequence.variables import Variable, Variables
from dpd.target.work.content import ContentSource
from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.program import Programs
from dpd.target.work.state import State, Volume
from dpd.target.work.volumes import Volumes
from dpd.target.work.work import Work

MIB = 1 << 20
SECTOR_BYTES = 512
EXECUTION = "ab" * 16
PATIENCE_S = 60.0
FACTS = Facts(
    architecture="x64",
    firmware="uefi",
    ram_bytes=2 << 30,
    cpus=2,
    vendor="QEMU",
    model="Standard PC",
    serial="S-1",
    guid="00112233-4455-6677-8899-aabbccddeeff",
    macs=("52:54:00:12:34:56",),
    disks=(Disk("/dev/none0", 10 << 30), Disk("/dev/none1", 20 << 30)),
    is_wired=True,
    is_on_ac_power=True,
)


def need(*programs: str) -> None:
    """Skip by the name of what is missing."""
    absent = [name for name in programs if shutil.which(name) is None]
    if os.geteuid() != 0:
        absent.append("root")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))


def run(*command: str | Path, given: str = "") -> str:
    ran = subprocess.run([str(word) for word in command], input=given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


@contextmanager
def loop_disk(folder: Path, size_bytes: int = 256 * MIB, name: str = "disk.img") -> Iterator[str]:
    """A disk of zeros; what is mounted from it below the folder goes with it."""
    need("losetup", "partx")
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / name
    with image.open("wb") as file:
        file.truncate(size_bytes)
    with _shared(folder):
        device = _attach(image)
        try:
            yield device
        finally:
            for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
                if line.startswith(device):
                    subprocess.run(["umount", "-l", line.split()[1]], check=False)
            subprocess.run(["partx", "--delete", device], capture_output=True, check=False)
            run("losetup", "--detach", device)


@contextmanager
def attached(image: Path, partition: int) -> Iterator[str]:
    """The device of a partition of a disk image, as it is."""
    found = json.loads(run("sfdisk", "--json", image))["partitiontable"]["partitions"][partition - 1]
    place = ("--offset", str(found["start"] * SECTOR_BYTES), "--sizelimit", str(found["size"] * SECTOR_BYTES))
    device = run("losetup", "--find", "--show", "--read-only", *place, image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """Namespaces that other tests make meanwhile copy every mount; of those below a shared one they also see the end, so that
    nobody holds a disk that was given back here."""
    run("mount", "--bind", folder, folder)
    run("mount", "--make-shared", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def _attach(image: Path) -> str:
    """A loop device for it that has no partitions of an earlier disk."""
    stale = []
    try:
        while True:
            device = run("losetup", "--find", "--show", image).strip()
            subprocess.run(["partx", "--delete", device], capture_output=True, check=False)
            if not list(Path("/sys/class/block", Path(device).name).glob("loop*p*")):
                return device
            stale.append(device)
    finally:
        for each in stale:
            run("losetup", "--detach", each)


def sequence_of(text: str, name: str = "test") -> TaskSequence:
    document = read_document(f'name = "{name}"\n{text}')
    assert document.sequence is not None, document.problems
    return replace(document.sequence, version=1)


def step_of(text: str) -> Step:
    """The only step of a sequence; `text` has its keys."""
    (step,) = sequence_of(f'[[step]]\nname = "It"\n{text}').steps()
    return step


@dataclass
class PlayedDesk:
    """The site: takes reports in order, tells what it has, cancels when asked to. `failing`: does not answer."""

    failing: DpdError | None = None
    cancel: str = ""
    reports: list[Report] = field(default_factory=list)
    progress: list[Report] = field(default_factory=list)
    asked: int = 0
    log: bytes = b""
    captured: bytearray = field(default_factory=bytearray)
    capture_size_bytes: int = 0

    def report(self, execution: str, reports: tuple[Report, ...]) -> Receipt:
        assert execution == EXECUTION
        self.asked += 1
        if self.failing is not None:
            raise self.failing
        for each in reports:
            if not each.number:
                self.progress.append(each)
            elif each.number == len(self.reports) + 1:
                self.reports.append(each)
        return Receipt(len(self.reports) + 1, self.cancel)

    def put_log(self, execution: str, text: bytes) -> None:
        if self.failing is not None:
            raise self.failing
        self.log = text

    def begin_capture(self, wish: CaptureWish) -> CapturePlace:
        self.capture_size_bytes = wish.size_bytes
        return CapturePlace(len(self.captured), "c1")

    def put_capture(self, capture: str, content: bytes, offset: int, size_bytes: int) -> int:
        assert offset == len(self.captured)
        self.captured += content
        return len(self.captured)

    def finish_capture(self, capture: str, digest: str) -> Captured:
        assert digest == sha256(self.captured).hexdigest()
        return Captured("CAP00001", 3)

    def states(self) -> list[tuple[str, str]]:
        return [(each.step, str(each.state)) for each in self.reports]

    def message(self, step: str, state: StepState) -> str:
        return next(each.message for each in self.reports if each.step == step and each.state is state)


def state_of(*, server: str = "http://127.0.0.1:1", document: str = "") -> State:
    return State(server, EXECUTION, "cd" * 16, document)


class Stage:
    """What steps work with, in a folder of its own; `work(text)` is a step's work."""

    def __init__(
        self,
        home: Path,
        *,
        facts: Facts = FACTS,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        url: str = "http://127.0.0.1:1",
        public_key: bytes | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.facts = facts
        self.state = state_of(server=url)
        known = [Variable(name, value) for name, value in (variables or {}).items()]
        known += [Variable(name, value, secret=True) for name, value in (secrets or {}).items()]
        self.variables = Variables(known)
        self.log = ExecutionLog(home / "log", self.variables.mask)
        self.ending: Exception | None = None
        self.programs = Programs(self.log, self.check)
        self.volumes = Volumes(self.state, self.programs, home / "volumes")
        self.desk = PlayedDesk()
        self.content = ContentSource(url, public_key=public_key, check=self.check, tell=self.log.write)
        self.content.patience_s = PATIENCE_S
        self.progress: list[tuple[int, int, str]] = []
        self.shown: list[str] = []

    def check(self) -> None:
        if self.ending is not None:
            raise self.ending

    def work(self, step: str | Step) -> Work:
        return Work(
            step=step_of(step) if isinstance(step, str) else step,
            state=self.state,
            variables=self.variables,
            facts=self.facts,
            programs=self.programs,
            volumes=self.volumes,
            open_content=lambda: self.content,
            desk=self.desk,  # type: ignore[arg-type]
            log=self.log,
            room=self.home / "content",
            home=self.home,
            check=self.check,
            progress=lambda *each: self.progress.append(each),
            show=self.shown.append,
        )

    def told(self) -> str:
        return self.log.text().decode()

    def add_folder(self, name: str, format: str = "ext4") -> Path:
        """A volume that is mounted already: a folder."""
        place = self.home / "volumes" / name
        place.mkdir(parents=True)
        self.state.volumes.append(Volume(name, "/dev/none0", 1, f"/dev/none-{name}", format=format, uuid="u-" + name))
        self.volumes._mounted[name] = place
        return place

    def end(self) -> None:
        self.volumes.release_all()


@contextmanager
def staged_disk(
    home: Path,
    partitions: Sequence[str],
    *,
    size_bytes: int = 256 * MIB,
    table: str = "gpt",
    make: Callable[..., Stage] = Stage,
    **options: object,
) -> Iterator[Stage]:
    """A stage whose disk has been partitioned by the step; each of `partitions` is an inline table."""
    from dpd.target.steps import partition_disk

    need("sfdisk", "mkfs.ext4")
    with loop_disk(home, size_bytes) as device:
        stage = make(home / "stage", **options)
        try:
            keys = (
                f'do = "partition_disk"\ndisk = "{device}"\ntable = "{table}"\npartitions = [{", ".join(partitions)}]'
            )
            partition_disk.run(stage.work(keys))
            yield stage
        finally:
            stage.end()


def make_tree(folder: Path) -> Path:
    """A small system: files, a link, an executable, a name in UTF-8."""
    for name in ("etc", "usr/bin", "boot", "var/lib"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/hostname").write_text("image\n")
    (folder / "etc/grüße").write_text("ä\n")
    (folder / "usr/bin/tool").write_text("#!/bin/sh\necho tool\n")
    (folder / "usr/bin/tool").chmod(0o755)
    (folder / "usr/bin/link").symlink_to("tool")
    (folder / "boot/vmlinuz-6.1.0-9-amd64").write_bytes(b"kernel 9")
    (folder / "boot/vmlinuz-6.1.0-10-amd64").write_bytes(b"kernel 10")
    (folder / "boot/initrd.img-6.1.0-10-amd64").write_bytes(b"ram disk 10")
    (folder / "var/lib/random").write_bytes(os.urandom(3 * MIB))
    os.link(folder / "var/lib/random", folder / "var/lib/again")
    return folder


def capture_tree(tree: Path, wim: Path, *options: str) -> Path:
    need("wimlib-imagex")
    run("wimlib-imagex", "capture", tree, wim, "small", "--unix-data", "--compress=none", *options)
    return wim
