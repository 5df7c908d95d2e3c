# SPDX-License-Identifier: Apache-2.0
"""A site with policy, books and a task sequence, and machines that boot in it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from dpd.content.library import Library
from dpd.deployment.captures import Captures
from dpd.deployment.database import open_database
from dpd.deployment.deployment_logs import DeploymentLogs
from dpd.deployment.execution_book import ExecutionBook
from dpd.deployment.resume_book import ResumeBook
from dpd.deployment.signed_sequences import SignedSequences
from dpd.deployment.target_desk import Books, TargetDesk
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.sequence.exchange import Hello, Report, Reports, StepState, Take, Taken, Welcome
from dpd.settings import parse_settings
from dpd.site.decision import BootRequest, Decision
from dpd.site.policy import BootPolicy
from dpd.site.records import Computer, Deployment, Purpose, Rerun
from dpd.site.store import SiteStore
from dpd.telemetry.journal import BootJournal

MAC, OTHER, ADDRESS = "52:54:00:00:00:01", "52:54:00:00:00:02", "192.0.2.7"
T = 1_800_000_000.0
ABOUT = "Debian for the lab"


def debian(**head: str) -> str:
    """A task sequence as people write it."""
    more = "".join(f"{key} = {value}\n" for key, value in head.items())
    return f"""\
name = "debian"
description = "{ABOUT}"
time_limit_s = 7200
{more}
[[step]]
name = "Check"
do = "check_readiness"
minimum_cpus = 1

[[step]]
name = "Keep"

[[step.step]]
name = "Capture"
do = "capture_image"
volume = "/dev/sda2"
package_id = "LAB00009"
"""


class Clock:
    def __init__(self) -> None:
        self.now = T

    def __call__(self) -> float:
        return self.now


class TargetSite:
    """Everything behind the door, on disk; `reopen` is what a restart of dpd leaves. PC1 is at ADDRESS."""

    def __init__(self, stack: ExitStack, folder: Path, settings: str = "") -> None:
        self._stack, self._folder = stack, folder
        self._settings = parse_settings(settings, "t")
        self.clock = Clock()
        self.library = stack.enter_context(Library(folder / "library", slab_bytes=SLAB_BYTES))
        self._inner = stack.enter_context(ExitStack())
        self._open()
        self.publish(debian(), 2)
        self.publish(debian() + "# newer\n", 3)
        self.store.add_computer(Computer("PC1", (MAC, "52:54:00:00:00:0f")), "test")

    def _open(self) -> None:
        self.store = SiteStore(self._folder / "site.db", clock=self.clock)
        self._inner.callback(self.store.close)
        self.journal = BootJournal(clock=self.clock)
        self.policy = BootPolicy(self._settings, store=self.store, clock=self.clock)
        database = open_database(self._folder / "deployment.db")
        self._inner.callback(database.close)
        self.book = ExecutionBook(database, clock=self.clock)
        resumes = ResumeBook(self._folder / "resumes.db")
        self._inner.callback(resumes.close)
        self.logs = DeploymentLogs(self._folder / "logs")
        captures = Captures(
            database, self._folder / "captures", self.library, self.book.find, lambda: 1 << 30, clock=self.clock
        )
        self.sequences = SignedSequences(self.store.sequences.find, self.library.public_key(), self.library.sign)
        books = Books(self.book, resumes, self.logs, captures)
        self.desk = TargetDesk(self.policy, self.sequences, books, journal=self.journal, clock=self.clock)

    def publish(self, text: str, version: int = 0) -> None:
        self.store.sequences.publish(text, "test", None, version)

    def reopen(self) -> None:
        self._inner.close()
        self._open()

    def deploy(self, target: str = "PC1", sequence: str = "debian", purpose: Purpose = Purpose.REQUIRED, rerun: Rerun = Rerun.NEVER, name: str = "") -> int:  # fmt: skip
        wanted = Deployment(0, target, "", purpose, rerun=rerun, name=name, sequence=sequence)
        return self.store.add_deployment(wanted, "test").id

    def ask(self, mac: str = MAC) -> Decision:
        """What a network boot would be answered."""
        return self.policy.decide(self._request(mac))

    def boot(self, mac: str = MAC, address: str = ADDRESS) -> str:
        """The proof on the kernel's command line of a machine that was granted its boot, "" where there is none."""
        self.policy.bind(address, mac)
        decision = self.ask(mac)
        if decision.boots:
            self.policy.issue(self._request(mac), decision)
        boot = self.policy.boot_of(mac)
        return boot.ticket.proof if boot is not None else ""

    def _request(self, mac: str) -> BootRequest:
        return BootRequest(mac, "", "uefi-x64", "PXEClient", "192.0.2.1", at=self.clock.now)

    def hello(self, proof: str, mac: str = MAC, address: str = ADDRESS, boot: str = "0" * 16, arch: str = "x64") -> Welcome:  # fmt: skip
        return self.desk.hello(Hello(proof, (OTHER, mac), "", arch, "uefi", "0.1", boot), address)

    def begin(self) -> tuple[str, Taken]:
        """A machine that boots and takes what it is offered: its session, and what it took."""
        welcome = self.hello(self.boot())
        return welcome.session, self.desk.take(welcome.session, Take(welcome.offers[0].deployment), is_secure=False)


def said(execution: str, *states: tuple[str, StepState]) -> Reports:
    """Reports from number 1 on."""
    reports = (Report(number, T, step, state) for number, (step, state) in enumerate(states, 1))
    return Reports(execution, tuple(reports))
