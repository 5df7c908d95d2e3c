# SPDX-License-Identifier: Apache-2.0
"""From the proof on the kernel's command line to a machine that its sequence has made; on the other side the site's own desk."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.deployment.target_site import MAC, TargetSite
from tests.service.certificates import write_certificate
from tests.service.multicast_site import SETTINGS
from tests.target.stage import MIB, PATIENCE_S, capture_tree, loop_disk, make_tree, need, run, staged_disk
from tests.target.steps.test_install_boot_loader import put_system

from dpd.content.boot_files import BootFiles
from dpd.deployment.execution import Execution, ExecutionState
from dpd.service.boot_tree import BootTree
from dpd.service.http.server import HttpService
from dpd.service.multicast.service import MulticastService
from dpd.settings import HttpSettings
from dpd.site.records import Purpose, Variable
from dpd.target.bundle import build
from dpd.target.deploy import EXIT_BOOT_AGAIN, EXIT_DONE, EXIT_FAILED, EXIT_NOTHING, EXIT_RESTART, EXIT_UNREACHABLE
from dpd.telemetry.journal import BootJournal

LOCAL = "127.0.0.1"
BOOTIF = "BOOTIF=01-" + MAC.replace(":", "-")


def command(name: str, line: str, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[[step]]\nname = \"{name}\"\ndo = \"run_command_line\"\ncommand = '''{line}'''\n{more}"


def one_volume(disk: str) -> str:
    """The step that makes the whole disk the volume `root`."""
    return f"""[[step]]
name = "Disk"
do = "partition_disk"
disk = "{disk}"
partitions = [{{ name = "root", size = "rest", format = "ext4" }}]
"""


class Served:
    """A site on loopback that can go away and come back, and the machine that it deploys."""

    def __init__(self, site: TargetSite, home: Path, program: Path, tls: bool) -> None:
        self.site, self.home, self.program = site, home, program
        self.work, self.dpd = home / "work", home / "dpd"
        self.dpd.mkdir()
        (self.dpd / "signing-key").write_text(site.library.public_key().hex() + "\n")
        self._tls = write_certificate(home) if tls else None
        if self._tls:
            (self.dpd / "ca.pem").write_bytes(Path(self._tls[0]).read_bytes())
        (home / "boot").mkdir()
        self._ports = (0, 0)
        self._processes: list[subprocess.Popen[str]] = []

    async def start(self) -> None:
        journal = BootJournal()
        certificate, key = map(str, self._tls or ("", ""))
        self._multicast = MulticastService(SETTINGS, library=self.site.library, epoch=self.site.library.next_epoch())
        settings = HttpSettings(
            listen=LOCAL, port=self._ports[0], tls_port=self._ports[1], certificate=certificate, private_key=key
        )
        self._http = HttpService(
            settings,
            library=self.site.library,
            boot_tree=BootTree(BootFiles(self.home / "boot"), journal),
            multicast=self._multicast,
            journal=journal,
            target=self.site.desk,
        )
        await self._multicast.start()
        await self._http.start()
        self._ports = (self._http.ports["http"], self._http.ports.get("https", 0))

    async def stop(self) -> None:
        await self._http.stop()
        await self._multicast.stop()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @property
    def url(self) -> str:
        return f"https://{LOCAL}:{self._ports[1]}" if self._tls else f"http://{LOCAL}:{self._ports[0]}"

    def offer(self, text: str, *, purpose: Purpose = Purpose.REQUIRED) -> int:
        self.site.publish(f'name = "s1"\n{text}')
        return self.site.deploy(sequence="s1", purpose=purpose)

    def boot(self) -> None:
        """The firmware and the boot script: a ticket, and its proof on the kernel's command line."""
        proof = self.site.boot(address=LOCAL)
        assert proof
        (self.home / "cmdline").write_text(f"quiet dpd.server={self.url} dpd.proof={proof} {BOOTIF}\n")

    def begin(self, *options: str, patience_s: float = PATIENCE_S) -> subprocess.Popen[str]:
        arguments = ["--home", self.dpd, "--work", self.work, "--command-line", self.home / "cmdline", "--no-restart"]
        words = [sys.executable, "-I", "-S", self.program, "deploy", *arguments, "--patience", patience_s, *options]
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    async def end_of(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        out, _ = await asyncio.to_thread(process.communicate, None, 4 * PATIENCE_S)
        return process.returncode, out

    async def deploy(self, *options: str, patience_s: float = PATIENCE_S) -> tuple[int, str]:
        return await self.end_of(self.begin(*options, patience_s=patience_s))

    @property
    def execution(self) -> Execution:
        return self.site.book.list()[0]

    def state(self) -> ExecutionState:
        return self.execution.state

    def states(self) -> list[str]:
        return [str(each.state) for each in self.execution.steps]


async def wait_for(met: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("program") / "dpd-target.pyz"
    build(place)
    return place


@asynccontextmanager
async def serving(home: Path, program: Path, *, tls: bool = False) -> AsyncIterator[Served]:
    with ExitStack() as stack:
        served = Served(TargetSite(stack, home), home, program, tls)
        await served.start()
        try:
            yield served
        finally:
            served.end()
            await served.stop()


async def test_a_bare_disk_becomes_the_system_of_the_image_with_its_name(tmp_path: Path, program: Path) -> None:
    need("wimlib-imagex", "sfdisk", "mkfs.ext4")
    if Path("/sys/firmware/efi").exists():
        pytest.skip(
            "this machine was started by UEFI, and a disk on a loop device has no EFI system partition to mount"
        )
    with loop_disk(tmp_path, 512 * MIB) as disk:
        async with serving(tmp_path, program) as served:
            tree = make_tree(tmp_path / "tree")
            put_system(tree, "i386-pc")
            put_system(tree, "x86_64-efi")
            served.site.library.publish(capture_tree(tree, tmp_path / "os1.wim"), "OS1")
            served.offer(f"""
[[step]]
name = "Disk"
do = "partition_disk"
disk = "{disk}"
partitions = [
  {{ name = "content", size = "30%", format = "ext4" }},
  {{ name = "root", size = "rest", format = "ext4" }},
]

[[step]]
name = "Image"

[[step.step]]
name = "Receive"
do = "join_multicast"
package = "OS1"
volume = "content"

[[step.step]]
name = "Apply"
do = "apply_os_image"
package = "OS1"
volume = "root"

[[step]]
name = "Name"
do = "write_configuration"
format = "file"
volume = "root"
path = "etc/hostname"
text = "%_DPDMachine%\\n"
mode = "0644"

[[step]]
name = "Loader"
do = "install_boot_loader"
volume = "root"

[[step]]
name = "Only on ARM"
do = "run_command_line"
command = "exit 1"
condition = {{ architecture = "arm64" }}

[[step]]
name = "Restart"
do = "restart"
""")
            served.boot()
            code, out = await served.deploy()
            assert code == EXIT_RESTART, out
            assert served.state() is ExecutionState.DONE
            assert served.states() == ["done", "done", "done", "done", "done", "skipped", "done"]
            assert "dpd: PC1: takes s1, sequence s1 version 1" in out
            assert not (served.work / "run.json").exists()
        place = tmp_path / "look"
        place.mkdir()
        run("mount", f"{disk}p2", place)
        try:
            assert (place / "etc/hostname").read_text() == "pc1\n"
            assert (place / "usr/bin/link").readlink() == Path("tool")
            assert (place / "var/lib/random").read_bytes() == (tmp_path / "tree/var/lib/random").read_bytes()
        finally:
            run("umount", place)


async def test_killed_it_goes_on_with_the_step_in_which_it_was(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        marker = tmp_path / "marker"
        served.offer(
            command("First", f"echo x >> {tmp_path}/first")
            + command(
                "Second", f"if [ -e {marker} ]; then exit 0; fi; touch {marker}; echo $$ > {tmp_path}/pid; sleep 600"
            )
            + command("Third", f"echo x >> {tmp_path}/third")
        )
        served.boot()
        process = served.begin()
        await wait_for(marker.exists)
        await wait_for(lambda: served.site.book.list() and "running" in served.states())
        process.kill()
        code, out = await served.deploy()
        assert code == EXIT_DONE, out
        assert "goes on with execution" in out
        assert served.state() is ExecutionState.DONE
        assert served.states() == ["done"] * 3
        assert (tmp_path / "first").read_text() + (tmp_path / "third").read_text() == "x\nx\n"
        await asyncio.to_thread(subprocess.run, ["kill", "-9", (tmp_path / "pid").read_text().strip()], check=False)


@pytest.mark.parametrize("moment", ["after the image", "before the image"])
async def test_a_machine_whose_power_is_cut_boots_again_and_is_deployed(
    tmp_path: Path, program: Path, moment: str
) -> None:
    need("wimlib-imagex", "sfdisk", "mkfs.ext4")
    with loop_disk(tmp_path) as disk:
        async with serving(tmp_path, program) as served:
            served.site.library.publish(capture_tree(make_tree(tmp_path / "tree"), tmp_path / "os1.wim"), "OS1")
            gate = f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/gate ]; do sleep 0.1; done"
            image = '[[step]]\nname = "Data"\ndo = "apply_data_image"\npackage = "OS1"\nvolume = "root"\n'
            cut = command("Gate", gate)
            served.offer(one_volume(disk) + (image + cut if moment == "after the image" else cut + image))
            served.boot()
            process = served.begin()
            await wait_for((tmp_path / "begun").exists)
            process.kill()
            (tmp_path / "gate").touch()
            await asyncio.to_thread(process.wait)
            lose_power(served.work)
            first = served.execution.id
            served.boot()
            code, out = await served.deploy()
            assert code == EXIT_DONE, out
            assert served.execution.id != first
            assert served.state() is ExecutionState.DONE
            assert not served.site.book.find(first).is_open
        place = tmp_path / "look"
        place.mkdir()
        run("mount", f"{disk}p1", place)
        try:
            assert (place / "etc/hostname").read_text() == "image\n"
        finally:
            run("umount", place)


def lose_power(work: Path) -> None:
    """Nothing that was in memory is there any more, and nothing is mounted."""
    for place in (work / "volumes").glob("*"):
        subprocess.run(["umount", place], check=False, capture_output=True)
    shutil.rmtree(work)


async def test_while_the_site_is_away_it_goes_on_and_tells_afterwards(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        gate = tmp_path / "gate"
        served.offer(
            command("First", f"touch {tmp_path}/begun; while [ ! -e {gate} ]; do sleep 0.1; done")
            + command("Second", f"touch {tmp_path}/second")
        )
        served.boot()
        process = served.begin()
        await wait_for((tmp_path / "begun").exists)
        await served.stop()
        served.site.reopen()  # dpd is another process by then, which knows no session
        gate.touch()
        await wait_for((tmp_path / "second").exists)
        await served.start()
        code, out = await served.end_of(process)
        assert code == EXIT_DONE, out
        assert served.state() is ExecutionState.DONE
        assert served.states() == ["done", "done"]


async def test_cancelled_at_the_site_it_stops_and_leaves_its_log(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        gate = f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/gate ]; do sleep 0.1; done"
        served.offer(command("First", gate) + command("Second", "sleep 600"))
        served.boot()
        process = served.begin()
        await wait_for((tmp_path / "begun").exists)
        served.site.book.cancel(served.execution.id, "wrong room", "admin")
        (tmp_path / "gate").touch()
        code, out = await served.end_of(process)
        assert code == EXIT_FAILED, out
        assert served.state() is ExecutionState.CANCELLED
        assert "wrong room" in out
        assert "the sequence ends: cancelled" in served.site.logs.read(served.execution.id)


async def test_a_failure_is_told_with_its_log_and_without_secrets(tmp_path: Path, program: Path) -> None:
    """Over TLS, since secrets come over nothing else."""
    async with serving(tmp_path, program, tls=True) as served:
        served.site.store.set_variable(Variable("PC1", "Password", "hunter2", secret=True), "test")
        served.offer(command("Login", "echo login with %Password% $Password refused; exit 4"))
        served.boot()
        code, out = await served.deploy()
        assert code == EXIT_FAILED, out
        execution = served.execution
        assert execution.state is ExecutionState.FAILED
        assert "sh ended with exit code 4: login with •••• •••• refused" in execution.steps[0].message
        text = served.site.logs.read(execution.id)
        assert "exit code 4" in text
        assert "hunter2" not in text + out + repr(execution)
        assert "hunter2" not in "".join(
            place.read_text("utf-8", "replace")
            for place in served.work.rglob("*")
            if place.is_file() and place.name != "run.json"
        )


async def test_an_available_one_waits_for_somebody_or_is_named(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        number = served.offer(command("First", f"touch {tmp_path}/ran"), purpose=Purpose.AVAILABLE)
        served.boot()
        code, out = await served.deploy()
        assert code == EXIT_NOTHING, out
        assert "1  s1" in out
        assert "nobody" in out
        assert not (tmp_path / "ran").exists()
        code, out = await served.deploy("--deployment", str(number))  # the same boot: its hello may be said again
        assert code == EXIT_DONE, out
        assert (tmp_path / "ran").exists()


async def test_a_run_that_ended_does_not_begin_again(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        served.offer(command("First", f"echo x >> {tmp_path}/ran"))
        served.boot()
        assert (await served.deploy())[0] == EXIT_DONE
        code, out = await served.deploy()
        assert code == EXIT_FAILED, out
        assert "proof" in out
        assert (tmp_path / "ran").read_text() == "x\n"


async def test_a_restart_puts_the_run_into_the_new_system_where_it_goes_on(tmp_path: Path, program: Path) -> None:
    need("sfdisk", "mkfs.ext4")
    with loop_disk(tmp_path) as disk:
        async with serving(tmp_path, program) as served:
            served.offer(
                f"""
{one_volume(disk)}

[[step]]
name = "System"
do = "run_command_line"
command = "mkdir -p usr/bin etc/systemd/system && ln -s python3.11 usr/bin/python3"
folder = "{served.work}/volumes/root"
condition = {{ folder = "root:/" }}

[[step]]
name = "Variable"
do = "set_variable"
variable = "Kept"
value = "from before"

[[step]]
name = "Restart"
do = "restart"
resume_volume = "root"
"""
                + command("Afterwards", f'echo "%Kept%" > {tmp_path}/afterwards')
            )
            served.boot()
            code, out = await served.deploy()
            assert code == EXIT_RESTART, out
            assert served.state() is ExecutionState.RESTARTING
            assert not (served.work / "run.json").exists()
            place = tmp_path / "system"
            place.mkdir()
            run("mount", f"{disk}p1", place)
            try:
                home = place / "var/lib/dpd-target"
                assert (place / "etc/systemd/system/multi-user.target.wants/dpd-target.service").readlink() == Path(
                    "/etc/systemd/system/dpd-target.service"
                )
                assert (home / "run/run.json").stat().st_mode & 0o777 == 0o600
                served.program, served.dpd, served.work = home / "dpd-target.pyz", home, home / "run"
                code, out = await served.deploy("--resume")
                assert code == EXIT_DONE, out
                assert (tmp_path / "afterwards").read_text() == "from before\n"
                assert served.state() is ExecutionState.DONE
                assert not (home / "run/run.json").exists()
                log = (home / "run/log").read_text()
                assert "partition_disk begins" in log
                assert "Afterwards: done" in log
            finally:
                run("umount", place)


async def test_a_site_that_is_away_at_the_end_is_told_by_the_new_system(tmp_path: Path, program: Path) -> None:
    """Else it would deploy the machine once more."""
    need("wimlib-imagex", "sfdisk", "mkfs.ext4")
    with loop_disk(tmp_path) as disk:
        async with serving(tmp_path, program) as served:
            tree = make_tree(tmp_path / "tree")
            (tree / "etc/systemd/system").mkdir(parents=True)
            (tree / "usr/bin/python3").symlink_to("python3.11")
            put_system(tree, "i386-pc")
            served.site.library.publish(capture_tree(tree, tmp_path / "os1.wim"), "OS1")
            gate = f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/gate ]; do sleep 0.1; done"
            served.offer(
                f"""
{one_volume(disk)}

[[step]]
name = "Apply"
do = "apply_os_image"
package = "OS1"
volume = "root"

[[step]]
name = "Loader"
do = "install_boot_loader"
volume = "root"
condition = {{ variable = "Nowhere" }}

"""
                + command("Gate", gate)
                + '[[step]]\nname = "Restart"\ndo = "restart"\n'
            )
            served.boot()
            process = served.begin(patience_s=0.5)
            await wait_for((tmp_path / "begun").exists)
            await served.stop()
            (tmp_path / "gate").touch()
            code, out = await served.end_of(process)
            assert code == EXIT_RESTART, out
            assert "the new system tells it" in out
            assert served.state() is ExecutionState.RUNNING
            place = tmp_path / "system"
            place.mkdir()
            run("mount", f"{disk}p1", place)
            try:
                home = place / "var/lib/dpd-target"
                served.program, served.dpd, served.work = home / "dpd-target.pyz", home, home / "run"
                await served.start()
                code, out = await served.deploy("--resume")
                assert code == EXIT_DONE, out
                assert served.state() is ExecutionState.DONE
                assert served.states() == ["done", "done", "skipped", "done", "done"]
            finally:
                run("umount", place)


async def test_a_machine_is_captured_and_its_image_is_deployed_to_another(tmp_path: Path, program: Path) -> None:
    need("wimlib-imagex", "sfdisk", "mkfs.ext4")
    root = '{ name = "root", size = "rest", format = "ext4" }'
    with staged_disk(tmp_path, [root]) as made, loop_disk(tmp_path, name="other.img") as other:
        source = made.volumes.find("root").device
        make_tree(made.volumes.folder("root"))
        made.volumes.release_all()
        async with serving(tmp_path, program) as served:
            served.offer(f"""
[[step]]
name = "Capture"
do = "capture_image"
volume = "{source}"
package_id = "CAP00001"
image_name = "golden"
compression = "none"

{one_volume(other)}

[[step]]
name = "Data"
do = "apply_data_image"
package = "CAP00001"
volume = "root"
folder = "copy"
""")
            served.boot()
            code, out = await served.deploy()
            assert code == EXIT_DONE, out + served.work.joinpath("log").read_text()
            content = served.site.library.find("CAP00001")
            assert (content.source_version, content.images[0].name) == (1, "golden")
        tree, copy = made.volumes.folder("root"), tmp_path / "copy"
        copy.mkdir()
        run("mount", f"{other}p1", copy)
        try:
            ran = subprocess.run(
                ["diff", "-r", "--no-dereference", "--exclude=lost+found", tree, copy / "copy"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.stdout + ran.stderr == ""
        finally:
            run("umount", copy)


async def test_a_site_that_is_not_there_is_told(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        served.offer(command("First", "true"))
        served.boot()
        await served.stop()
        code, out = await served.deploy(patience_s=0.5)
        assert code == EXIT_UNREACHABLE
        assert "is dpd running there, and is the port open?" in out
        await served.start()
        assert (await served.deploy())[0] == EXIT_DONE


async def test_a_boot_that_the_site_knows_no_more_is_to_be_made_again(tmp_path: Path, program: Path) -> None:
    """dpd was started anew while the machine loaded: nobody has to come and press a key."""
    async with serving(tmp_path, program) as served:
        served.offer(command("First", "true"))
        served.boot()
        await served.stop()
        served.site.reopen()
        await served.start()
        code, out = await served.deploy()
        assert code == EXIT_BOOT_AGAIN, out
        assert "boot the machine from the network" in out
        served.boot()
        assert (await served.deploy())[0] == EXIT_DONE


async def test_a_wrong_proof_is_refused_with_the_next_step(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        served.offer(command("First", "true"))
        served.boot()
        place = tmp_path / "cmdline"
        proof = place.read_text().partition("dpd.proof=")[2].split()[0]
        place.write_text(place.read_text().replace(proof, "0" * len(proof)))
        code, out = await served.deploy()
        assert code == EXIT_FAILED
        assert "proof" in out
        assert proof not in out


async def test_a_sequence_of_another_key_is_not_run(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        served.offer(command("First", f"touch {tmp_path}/ran"))
        served.boot()
        (served.dpd / "signing-key").write_text("00" * 32)
        code, out = await served.deploy()
        assert code == EXIT_FAILED
        assert "signed by the key" in out
        assert not (tmp_path / "ran").exists()
        assert served.state() is ExecutionState.FAILED
        assert "signed by the key" in served.execution.error + served.execution.message
        assert not (served.work / "run.json").exists()
        (served.dpd / "signing-key").write_text("zz")
        code, out = await served.deploy()
        assert "expected dpd's public key as 64 hexadecimal digits" in out


async def test_without_a_run_there_is_nothing_to_resume(tmp_path: Path, program: Path) -> None:
    async with serving(tmp_path, program) as served:
        code, out = await served.deploy("--resume")
        assert code == EXIT_NOTHING
        assert "no run is under way" in out
