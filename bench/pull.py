# SPDX-License-Identifier: Apache-2.0
"""Pulling from another dpd beside curl: one large file, and a folder of 20,000 small ones.

    python -m bench.pull [--quick] [--folder DIR] [--size-mib N] [--files N] [--rounds N]

All fetch from the same `dpd` HTTP service on loopback, which has a process of its own, in turn. curl writes the bytes and
looks at none of them; for small files it has as many connections as a pull. dpd also checks every slab and every file,
cuts chunks, and has all of it on the disk before it says so. The third contestant, curl and then sha256sum, is what it
takes without dpd to know that the file is right.
"""

from __future__ import annotations

import math
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contest import MIB, Contest, Run, choose, shell
from bench.machine import print_facts, version_of
from bench.publish import make_file, make_folder

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.records import FileEntry
from dpd.content_settings import DistributionSettings, SourceSettings
from dpd.distribution.database import open_database
from dpd.distribution.jobs.job import Job, JobKind, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.pulling.pull import LANES, SourcePuller
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.trust import KeyRing
from dpd.protocol.multicast.geometry import SLAB_BYTES

SERVER = Path(__file__).with_name("http_files.py")


@contextmanager
def _server(home: Path) -> Iterator[str]:
    """A dpd that serves the library below `home`; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, SERVER, "--serve", str(home), str(port)])
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


class Puller:
    """A dpd that pulls and forgets."""

    def __init__(self, home: Path, url: str) -> None:
        self.library = Library(home / "library", slab_bytes=SLAB_BYTES)
        self._database = open_database(home / "distribution.db")
        self._puller = SourcePuller(
            DistributionSettings(source=(SourceSettings(name="bench", url=url),)),
            self.library,
            KeyRing(self._database),
            RateLimit(lambda: math.inf),
            tell=lambda event, fields: None,
            rng=random.Random(1),
        )

    def pull(self, package_id: str) -> Run:
        job = Job(1, JobKind.DISTRIBUTE, package_id, None, Priority.NORMAL, JobState.RUNNING, 0.0)
        return lambda: void(self._puller.pull(package_id, 1, JobRun(job, gate=lambda: None)))

    def forget(self, package_id: str) -> Run:
        return lambda: void(self.library.remove(package_id))

    def close(self) -> None:
        self.library.close()
        self._database.close()


def void(_: object) -> None:
    """The result is not looked at."""


def large_file(home: Path, url: str, sha256: str, puller: Puller, size_mib: int, rounds: int) -> None:
    contest, got = Contest(size_mib * MIB, 1, rounds), home / "got"
    curl = f"curl -sf -o got {url}/{repository.blob(sha256)}"
    contest.add("curl", shell(curl, home), got.unlink)
    contest.add("curl, sync, sha256sum", shell(f"{curl} && sync got && sha256sum got", home), got.unlink)
    contest.add("dpd", puller.pull("LARGE"), puller.forget("LARGE"))
    contest.hold()
    print(f"One file of {size_mib} MiB\n")
    contest.show("curl")


def many_files(home: Path, url: str, files: Sequence[FileEntry], puller: Puller, rounds: int) -> None:
    got, size_bytes = home / "got", sum(each.size_bytes for each in files)
    wanted = (f'url = "{url}/{repository.blob(each.sha256)}"\noutput = "got/{each.sha256}"\n' for each in files)
    (home / "urls").write_text("".join(wanted))
    contest = Contest(size_bytes, len(files), rounds)
    curl = f"mkdir got && curl -fZ --no-progress-meter --parallel-max {LANES} -K urls"
    contest.add("curl", shell(curl, home), lambda: shutil.rmtree(got))
    checked = f"{curl} && sync -f got && find got -type f -print0 | xargs -0 sha256sum"
    contest.add("curl, sync, sha256sum", shell(checked, home), lambda: shutil.rmtree(got))
    contest.add("dpd", puller.pull("FOLDER"), puller.forget("FOLDER"))
    contest.hold()
    print(f"{len(files)} files, {size_bytes / MIB:.0f} MiB\n")
    contest.show("curl")


def main() -> int:
    chosen = choose(__doc__)
    print_facts()
    print(f"{'curl':>14}: {version_of('curl', '--version')}\n{'folder':>14}: {chosen.folder}\n")
    with tempfile.TemporaryDirectory(prefix="dpd-bench-", dir=chosen.folder) as folder:
        home = Path(folder)
        for name in ("source", "site"):
            (home / name).mkdir()
        make_file(home / "large.img", chosen.size_mib)
        make_folder(home / "folder", chosen.files)
        with Library(home / "source" / "library", slab_bytes=SLAB_BYTES) as library:
            sha256 = library.publish(home / "large.img", "LARGE").sha256
            entries = library.files(library.publish(home / "folder", "FOLDER"))
        with _server(home / "source") as url:
            puller = Puller(home / "site", url)
            large_file(home, url, sha256, puller, chosen.size_mib, chosen.rounds)
            many_files(home, url, entries, puller, chosen.rounds)
            puller.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
