# SPDX-License-Identifier: Apache-2.0
"""Debian's packages, fetched by apt into a folder of our own and unpacked there, never installed: this machine's dpkg is not
asked and not told. apt checks their signatures and hashes as always."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dpd.errors import BuildError

TIMEOUT_S = 1800.0
LISTS = Path("/var/lib/apt/lists")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_LINE = re.compile(r"(\S+) (\S+) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package as it was fetched; what a list of an image's contents says of it."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.sha256}"


@dataclass(frozen=True, slots=True)
class _Offer:
    """One archive as apt's index has it; `hash` is such as SHA256:…, or empty."""

    file: str
    size_bytes: int
    hash: str

    @property
    def name(self) -> str:
        return self.file.partition("_")[0]

    def __str__(self) -> str:
        return f"{self.name}={unquote(self.file).split('_')[1]}"

    def is_in(self, folder: Path) -> bool:
        """Whether it is there, and whole."""
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.size_bytes:
            return False
        kind, _, expected = self.hash.partition(":")
        if kind.lower() not in ("sha256", "sha512"):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, kind.lower()).hexdigest() == expected


class Packages:
    """The packages of one of Debian's architectures. `sources`: a file in the form of sources.list instead of this machine's.
    `pinned`: versions and hashes that the packages must have."""

    def __init__(
        self, debian: str, cache: Path, *, sources: Path | None = None, pinned: Iterable[Package] = ()
    ) -> None:
        self.debian = debian
        self._folder = cache / debian
        self._pinned = {package.name: package for package in pinned}
        self._archives = self._folder / "archives"
        for place in (self._archives / "partial", self._folder / "nothing"):
            place.mkdir(parents=True, exist_ok=True)
        own_lists = self._folder / "lists"
        is_ours = sources is None and debian == _MACHINES.get(platform.machine()) and any(LISTS.glob("*_Packages*"))
        settings = {
            "APT::Architecture": debian,
            "APT::Architectures": debian,
            "APT::Install-Recommends": "no",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "yes",
            "Dir::State": str(self._folder / "state"),
            "Dir::State::Lists": str(LISTS if is_ours else own_lists),
            "Dir::State::status": "/dev/null",
            "Dir::Cache": str(self._folder),
            "Dir::Cache::archives": str(self._archives),
            "Dir::Cache::pkgcache": "",  # which another build would change meanwhile
            "Dir::Cache::srcpkgcache": "",
        }
        if sources is not None:
            settings |= {"Dir::Etc::SourceList": str(sources.resolve()), "Dir::Etc::SourceParts": "/dev/null"}
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        if not is_ours:
            (own_lists / "partial").mkdir(parents=True, exist_ok=True)
            (self._folder / "state").mkdir(exist_ok=True)
            with self._alone():
                self._run("apt-get", "update")

    def kernel(self, package: str) -> str:
        """The package of the kernel that this one stands for."""
        told = self._run("apt-cache", "depends", "--important", package)
        found = re.search(r"Depends: (linux-image-\S+)", told)
        if found is None:
            raise BuildError(f"{package}: names no kernel; apt-cache said {told.strip()[:200]!r}")
        return found[1]

    def fetch(self, names: Sequence[str], *, with_needed: bool = True) -> dict[str, Path]:
        """These, and whatever they need; the archive of each by its package's name. Raises BuildError."""
        wanted = [f"{name}={self._pinned[name].version}" if name in self._pinned else name for name in names]
        offers = self._needed_by(wanted) if with_needed else self._offers("download", wanted)
        with self._alone():
            lacking = [offer for offer in offers if not offer.is_in(self._archives)]
            if lacking:
                self._run("apt-get", "download", *(str(offer) for offer in lacking), where=self._archives)
        found = {offer.name: self._archives / offer.file for offer in offers}
        for name, path in found.items():
            self._check(name, path)
        return found

    def unpacked(self, archive: Path) -> Path:
        """The folder with what is in that archive."""
        folder = self._folder / "unpacked" / archive.stem
        with self._alone():
            if not folder.is_dir():
                unfinished = folder.with_name(f".{archive.stem}")
                shutil.rmtree(unfinished, ignore_errors=True)  # of a build that was killed
                unfinished.mkdir(parents=True)
                self._run("dpkg-deb", "--extract", str(archive), str(unfinished))
                unfinished.rename(folder)
        return folder

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two builds may share the folder: only one of them at a time changes what is in it."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _needed_by(self, wanted: Sequence[str]) -> list[_Offer]:
        """All of them; apt leaves out what it has already, so it is asked as if it had nothing."""
        nothing = self._folder / "nothing"
        (nothing / "partial").mkdir(parents=True, exist_ok=True)
        return self._offers("install", ["--yes", "-o", f"Dir::Cache::archives={nothing}", *wanted])

    def _offers(self, verb: str, arguments: Sequence[str]) -> list[_Offer]:
        """What apt would fetch, from lines such as 'http://…' busybox-static_1%3a1.35.0-4_amd64.deb 893664 SHA256:…"""
        told = self._run("apt-get", verb, "--print-uris", *arguments, where=self._folder / "nothing")
        lines = [line.split() for line in told.splitlines() if line.startswith("'")]
        return [_Offer(file, int(size), *(hashes or [""])) for _, file, size, *hashes in lines]

    def _check(self, name: str, path: Path) -> None:
        expected = self._pinned.get(name)
        if expected is not None and described(path) != expected:
            raise BuildError(
                f"{described(path)}: the list of packages says {expected}; use another one, or a mirror that has it"
            )

    def _run(self, program: str, *arguments: str, where: Path | None = None) -> str:
        options = self._options if program.startswith("apt") else []
        command = [program, *options, *(["-qq"] if program == "apt-get" else []), *arguments]
        try:
            ran = subprocess.run(
                command, cwd=where, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
                env=os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
        except FileNotFoundError:
            raise BuildError(
                f"{program}: not on this machine; the image is built on Debian or what comes from it"
            ) from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"{program} {arguments[0]}: not done after {TIMEOUT_S:.0f} s") from None
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split()) or f"exit status {error.returncode}"
            raise BuildError(f"{program} {' '.join(arguments)}: {said[-600:]}") from None
        return ran.stdout


def described(archive: Path) -> Package:
    """What a package's file name and content say."""
    name, version, _ = unquote(archive.name).split("_", 2)
    with archive.open("rb") as file:
        return Package(name, version, hashlib.file_digest(file, "sha256").hexdigest())


def read_list(text: str, file: str) -> Iterator[Package]:
    """Packages from what a build wrote. Raises BuildError that names the line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise BuildError(
                f"{file}:{number}: expected name, version and SHA-256 with a blank between, got {line[:80]!r}"
            )
        yield Package(*found.groups())
