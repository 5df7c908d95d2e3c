# SPDX-License-Identifier: Apache-2.0
"""What `dpd demo` does: the whole of dpd on this machine, with nothing but real parts.

A daemon of its own on loopback and free high ports, state in a folder that goes away again; everything it shows was
done by the commands an operator would type and the receivers a deployment would run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table

from dpd.cli.boot_client import BootPlay, play_boot
from dpd.cli.demo_deployment import deploy
from dpd.errors import DpdError

PACKAGE = "DEMO0001"
MAC = "52:54:00:de:30:01"
READY_S = 30.0
IMAGE_MIB = 96
LOADERS = ("/usr/lib/ipxe/ipxe.efi", "/boot/ipxe.efi")

SETTINGS = """
[daemon]
state_dir = "{state}"
log_format = "json"
drain_timeout_s = 10.0
[pxe]
listen = "127.0.0.1"
port = 0
boot_port = 0
[boot]
directory = "{state}/boot"
[tftp]
listen = "127.0.0.1"
port = 0
[http]
listen = "127.0.0.1"
port = {http_port}
[multicast]
interface = "lo"
ttl = 0
[control]
socket = "{state}/control.sock"
[metrics]
listen = ""
"""


@dataclass(slots=True)
class Reception:
    """One receiver process and what it told last."""

    number: int
    process: subprocess.Popen[bytes]
    output: Path
    last: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""
    rest: bytes = b""


def run_demo(image: Path | None, receivers: int, keep: bool) -> None:
    """The whole of it. Raises DpdError where a step fails."""
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="dpd-demo-"))
    try:
        Demo(console, folder, receivers).run(image)
    finally:
        if keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Demo:
    """One run in one folder."""

    def __init__(self, console: Console, folder: Path, receivers: int) -> None:
        self._console = console
        self._folder = folder
        self._receivers = receivers
        self._state = folder / "state"
        self._http_port = _free_port()

    def run(self, image: Path | None) -> None:
        """Raises DpdError where a step fails; every step says what it does."""
        self._step("Image")
        source = image if image is not None else make_image(self._folder, self._console)
        loader = self._prepare()
        self._console.print(f"  {source.name}: {source.stat().st_size / 2**20:.1f} MiB; loader: {loader}")
        self._step("Daemon", f"dpd serve --config {self._folder / 'dpd.toml'}")
        with self._daemon():
            self._step("Publish", f"dpd content publish {source.name} --package {PACKAGE}")
            self._dpd("content", "publish", str(source), "--package", PACKAGE)
            self._step(
                "Multicast",
                f"dpd receive http://127.0.0.1:{self._http_port} {PACKAGE} -o image-N, {self._receivers} times",
            )
            receptions = self._receive()
            self._step("Network boot", "DISCOVER → OFFER → 4011 → TFTP and HTTP")
            play = self._boot()
            session = self._session()
            self._step("Task sequence", "dpd sequence publish demo.toml; dpd deployment add …; dpd deploy watch")
            socket_path = self._state / "control.sock"
            execution = deploy(self._folder, socket_path, self._dpd, PACKAGE, _sha256(source))
        self._step("Result")
        self._check(source, receptions)
        self._console.print(_table(receptions, source))
        self._console.print(_summary(session, source, play, self._folder / "state" / "boot" / "ipxe.efi", execution))

    def _step(self, title: str, detail: str = "") -> None:
        self._console.print(f"[bold]{title}[/bold]  [dim]{detail}[/dim]", highlight=False)

    def _prepare(self) -> str:
        """State folder, settings, and a loader to boot: Debian's iPXE where it is installed, else a stand-in."""
        boot = self._state / "boot"
        boot.mkdir(parents=True)
        for loader in map(Path, LOADERS):
            if loader.is_file():
                shutil.copy(loader, boot / "ipxe.efi")
                break
        else:
            (boot / "ipxe.efi").write_bytes(random.Random(1).randbytes(1 << 20))
        settings = SETTINGS.format(state=self._state, http_port=self._http_port)
        (self._folder / "dpd.toml").write_text(settings, encoding="utf-8")
        return str(loader) if loader.is_file() else "1 MiB of random bytes (no iPXE is installed here)"

    @contextmanager
    def _daemon(self) -> Iterator[None]:
        """`dpd serve` as systemd would run it: ready when it says so, ended by SIGTERM."""
        notify = self._folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (self._folder / "log").open("wb") as log:
            ready.bind(str(notify))
            ready.settimeout(READY_S)
            daemon = subprocess.Popen(
                [sys.executable, "-m", "dpd", "serve", "--config", str(self._folder / "dpd.toml")],
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
                stderr=log,
                stdout=log,
            )
            try:
                self._await_ready(ready, daemon)
                yield
            finally:
                daemon.send_signal(signal.SIGTERM)
                code = daemon.wait(timeout=READY_S)
        if code:
            raise DpdError(f"the daemon ended with exit code {code}:\n{self._log_tail()}")
        self._console.print("  daemon stopped cleanly")

    def _await_ready(self, ready: socket.socket, daemon: subprocess.Popen[bytes]) -> None:
        ready.settimeout(0.5)
        for _ in range(int(READY_S / 0.5)):
            try:
                if b"READY=1" in ready.recv(4096):
                    return
            except TimeoutError:
                if daemon.poll() is not None:
                    break
        raise DpdError(f"the daemon did not get ready:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-5:])

    def _dpd(self, *arguments: str) -> Any:
        """A dpd command against our daemon; its JSON answer."""
        command = [sys.executable, "-m", "dpd", *arguments, "--json"]
        environment = {**os.environ, "DPD_SOCKET": str(self._state / "control.sock")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DpdError(f"dpd {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None

    def _receive(self) -> list[Reception]:
        """Run the receivers and draw a bar for each until the last one ends."""
        receptions = [self._start_receiver(number) for number in range(1, self._receivers + 1)]
        columns = (TextColumn("  receiver {task.fields[number]}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        note = TextColumn("[dim]{task.fields[note]}[/dim]")
        with (
            Progress(*columns, TimeElapsedColumn(), note, console=self._console) as bars,
            selectors.DefaultSelector() as selector,
        ):
            tasks = {r.number: bars.add_task("", total=None, number=r.number, note="starting") for r in receptions}
            for reception in receptions:
                assert reception.process.stdout is not None
                os.set_blocking(reception.process.stdout.fileno(), False)
                selector.register(reception.process.stdout, selectors.EVENT_READ, reception)
            while selector.get_map():
                for key, _ in selector.select():
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                    last = key.data.last
                    note_text = f"lost {last.get('lost', 0)}  repairs {last.get('repairs', 0)}"
                    done, total = last.get("verified_bytes", 0), last.get("size_bytes")
                    bars.update(tasks[key.data.number], completed=done, total=total, note=note_text)
        for reception in receptions:
            if reception.process.wait() or reception.failure:
                raise DpdError(f"receiver {reception.number}: {reception.failure or reception.process.returncode}")
        return receptions

    def _start_receiver(self, number: int) -> Reception:
        output = self._folder / f"image-{number}"
        url = f"http://127.0.0.1:{self._http_port}"
        command = [
            sys.executable,
            "-m",
            "dpd.target.receiving.receive",
            url,
            PACKAGE,
            "-o",
            str(output),
            "--interface",
            "lo",
            "--json",
        ]
        return Reception(number, subprocess.Popen(command, stdout=subprocess.PIPE), output)

    def _read(self, reception: Reception) -> bool:
        """Take in what a receiver told. False: it has ended."""
        assert reception.process.stdout is not None
        chunk = os.read(reception.process.stdout.fileno(), 65536)
        *lines, reception.rest = (reception.rest + chunk).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if told["event"] == "progress":
                reception.last = told
            elif told["event"] == "completed":
                reception.seconds = told["seconds"]
            elif told["event"] == "failed":
                reception.failure = told["reason"]
        return bool(chunk)

    def _boot(self) -> BootPlay:
        ports = {service["name"]: service["ports"] for service in self._dpd("status")["services"]}
        play = play_boot(
            "127.0.0.1",
            port=ports["pxe"]["port"],
            boot_port=ports["pxe"]["boot_port"],
            tftp_port=ports["tftp"]["tftp"],
            mac=MAC,
        )
        self._console.print(
            f"  told: {play.answered.loader} from {play.answered.server}, or {play.http_url}", highlight=False
        )
        return play

    def _session(self) -> dict[str, Any]:
        sessions: list[dict[str, Any]] = self._dpd("status")["sessions"]
        return sessions[0]

    def _check(self, source: Path, receptions: list[Reception]) -> None:
        """Every received file against the source: SHA-256, and wimlib where it is there and the image is a WIM."""
        wanted = _sha256(source)
        for reception in receptions:
            if _sha256(reception.output) != wanted:
                raise DpdError(f"receiver {reception.number}: {reception.output} differs from {source}")
            if _is_wim(source) and shutil.which("wimlib-imagex"):
                command = ["wimlib-imagex", "verify", str(reception.output)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise DpdError(f"receiver {reception.number}: wimlib-imagex verify: {done.stderr.strip()}")


def make_image(folder: Path, console: Console) -> Path:
    """A real WIM: a tree of small and large files, captured by wimlib with an integrity table."""
    if not shutil.which("wimlib-imagex"):
        _install_wimlib(console)
    tree = folder / "tree"
    rng = random.Random(7)
    for number in range(200):
        file = tree / f"Programme {number % 8}" / f"Datei-ü-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}\n" * rng.randrange(1, 200), encoding="utf-8")
    for number in range(4):
        (tree / f"payload-{number}.bin").write_bytes(rng.randbytes(IMAGE_MIB // 4 << 20))
    image = folder / "demo.wim"
    command = ["wimlib-imagex", "capture", str(tree), str(image), "dpd demo", "--compress=XPRESS", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DpdError(f"wimlib-imagex capture: {done.stderr.strip()}")
    shutil.rmtree(tree)
    return image


def _install_wimlib(console: Console) -> None:
    """As root with apt: install it. Else say how, and the way round."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        console.print("  installing wimtools")
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wimtools"], check=False)
    if not shutil.which("wimlib-imagex"):
        raise DpdError(
            "wimlib-imagex is not installed: `sudo apt-get install wimtools`, or show your own file meanwhile: make demo IMAGE=path"
        )


def _table(receptions: list[Reception], source: Path) -> Table:
    table = Table("receiver", "time", "goodput", "symbols", "lost", "repairs used", "SHA-256", "wimlib verify")
    verified = (
        "ok"
        if _is_wim(source) and shutil.which("wimlib-imagex")
        else "not a WIM"
        if not _is_wim(source)
        else "no wimlib"
    )
    size = source.stat().st_size
    for reception in receptions:
        last = reception.last
        rate = size * 8 / max(last["receiving_s"], 1e-3) / 1e6
        table.add_row(
            str(reception.number),
            f"{last['receiving_s']:.2f} s",
            f"{rate:.0f} Mbit/s",
            str(last["symbols"]),
            str(last["lost"]),
            str(last["recovered"]),
            "equal",
            verified,
        )
    return table


def _summary(session: dict[str, Any], source: Path, play: BootPlay, loader: Path, execution: dict[str, Any]) -> Table:
    size = source.stat().st_size
    content = loader.read_bytes()
    if play.by_tftp != content or play.by_http != content:
        raise DpdError("the loader that the client fetched differs from the one on disk")
    table = Table(show_header=False)
    table.add_row("image", f"{size} bytes in {session['slabs']} slabs")
    table.add_row("sent ÷ image size", f"{session['bytes_sent'] / size:.3f}  ({session['datagrams_sent']} datagrams)")
    table.add_row("repairs sent", str(session["repairs_sent"]))
    table.add_row("passes", str(session["pass_number"]))
    table.add_row(
        "boot client", f"{len(content)} bytes of {play.answered.loader} by TFTP and by HTTP, equal to the file"
    )
    steps, seconds = len(execution["step_states"]), execution["ended_at"] - execution["started_at"]
    table.add_row("task sequence", f"{steps} steps done by {execution['computer']} in {seconds:.1f} s, its image equal")
    return table


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_wim(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"MSWIM\0\0\0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
