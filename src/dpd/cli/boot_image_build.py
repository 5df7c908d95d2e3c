# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-image build`: the deployment environment, made on this machine and added as a boot image."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.boot_image_upload import upload
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import Bar, print_fields, print_json, progress_bar, size
from dpd.errors import BuildError

COMMAND_LINE = "quiet panic=30 dpd.mac={mac}"
CACHE = "~/.cache/dpd/packages"


@dataclass(frozen=True, slots=True)
class _Trusted:
    """The target's program, and whom it is to trust."""

    target: Path
    authorities: bytes
    public_key: str


@dataclass(frozen=True, slots=True)
class _Packages:
    """Debian's packages: for which processor, exactly which, from where, kept where."""

    arch: str
    pins: Path | None
    sources: Path | None
    cache: Path


@dataclass(frozen=True, slots=True)
class _Options:
    """What an operator may choose of a Linux image, as `linux_image.Wish` has it."""

    with_grub: bool
    quickly: bool
    packed_kernel: bool


@dataclass(frozen=True, slots=True)
class _Built:
    """The files of a boot image, how the daemon is to take them, and what there is to tell."""

    files: list[Path]
    query: dict[str, str]
    made: dict[str, Any]


def build(
    image_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Boot image ID: 1 to 64 of A-Z a-z 0-9 . _ -")
    ] = "",
    arch: Annotated[str, typer.Option(metavar="ARCH", help="x64 or arm64.")] = "x64",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the files here too: kernel, initrd, signed loaders, list."),
    ] = None,
    winpe: Annotated[
        Path | None, typer.Option(metavar="WIM", help="Instead of Linux: your boot.wim, with dpd inside.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(metavar="ZIP", help="For WinPE: Python's embeddable distribution of python.org.")
    ] = None,
    start: Annotated[str, typer.Option(metavar="COMMAND", help="For WinPE: what it runs.")] = "",
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the authority behind https addresses of the site.")
    ] = None,
    public_key: Annotated[
        str,
        typer.Option(
            metavar="HEX", help="Take content of this key only; default: the daemon's own, as `dpd status` tells."
        ),
    ] = "",
    cmdline: Annotated[str, typer.Option(metavar="TEXT", help="Further words of the kernel's command line.")] = "",
    packages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Exactly these packages: the packages.txt of an earlier build.")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where packages come from, as sources.list; default: this machine's."),
    ] = None,
    cache: Annotated[Path, typer.Option(metavar="FOLDER", help="Where downloaded packages stay.")] = Path(CACHE),
    without_grub: Annotated[
        bool, typer.Option("--without-grub", help="Leave GRUB's tools and modules out: 2 MB less.")
    ] = False,
    quickly: Annotated[bool, typer.Option("--quickly", help="Compress less: a fifth larger, made in seconds.")] = False,
    pack_kernel: Annotated[
        bool,
        typer.Option("--pack-kernel", help="For arm64 without Secure Boot: the kernel packed by gzip, 22 MB less."),
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Build the deployment environment out of Debian's packages, or into your WinPE, and add it as a boot image."""
    from dpd.target import bundle

    if not image_id and output is None:
        raise typer.BadParameter("expected --id to add it as a boot image, or --output to keep its files, or both")
    client = Client(socket)
    key = public_key or (str(client.get("status")["public_key"]) if image_id else "")
    with tempfile.TemporaryDirectory(prefix="dpd-boot-image-") as work, progress_bar(quiet=as_json) as bar:
        folder = Path(work)
        target = folder / "dpd-target.pyz"
        bundle.build(target)
        trusted = _Trusted(target, _read(ca_file) if ca_file else b"", key)
        if winpe is not None:
            built = _build_winpe(winpe, python, start, trusted, folder)
        else:
            wanted = _Packages(arch, packages, sources, cache.expanduser())
            options = _Options(with_grub=not without_grub, quickly=quickly, packed_kernel=pack_kernel)
            built = _build_linux(wanted, trusted, folder, bar, options)
            built.query["command_line"] = f"{COMMAND_LINE} {cmdline}".strip()
        if output is not None:
            _keep(folder, output)
        if image_id:
            built.made["boot_image"] = upload(client, built.files, {"image_id": image_id, **built.query}, bar)
    if as_json:
        print_json(built.made)
    else:
        _print(built.made, output)


def _build_winpe(wim: Path, python: Path | None, start: str, trusted: _Trusted, folder: Path) -> _Built:
    from dpd.boot.winpe import boot_image_of
    from dpd.environment import winpe_image

    index, summary = boot_image_of(wim)
    wish = winpe_image.WinpeWish(wim, index, trusted.target, python, trusted.authorities, trusted.public_key, start)
    image = winpe_image.build(wish, folder)
    made = {"architecture": summary.architecture, "size_bytes": image.stat().st_size}
    return _Built([image], {"kind": "winpe", "description": "Deployment environment (WinPE)"}, made)


def _build_linux(wanted: _Packages, trusted: _Trusted, folder: Path, bar: Bar, options: _Options) -> _Built:
    from dpd.environment import linux_image
    from dpd.environment.architectures import architecture
    from dpd.environment.packages import Packages, read_list

    found, pins = architecture(wanted.arch), wanted.pins
    pinned = list(read_list(_read(pins).decode("utf-8", "replace"), pins.name)) if pins else []
    fetched = Packages(found.debian, wanted.cache, sources=wanted.sources, pinned=pinned)
    wish = linux_image.Wish(
        found, trusted.target, linux_image.build_time() or int(time.time()), trusted.authorities, trusted.public_key,
        **asdict(options),
    )  # fmt: skip
    image = linux_image.build(wish, fetched, folder, lambda stage: bar(stage, 0, 0))
    made = {
        "architecture": wanted.arch, "size_bytes": image.size_bytes, "unpacked_bytes": image.unpacked_bytes,
        "kernel": image.release, "modules": image.modules, "packages": [str(each) for each in image.packages],
    }  # fmt: skip
    query = {"kind": "linux", "architecture": wanted.arch, "description": "Deployment environment"}
    return _Built([image.kernel, image.initramfs], query, made)


def _keep(folder: Path, output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            shutil.copyfile(path, output / path.name)
    except OSError as error:
        raise BuildError(f"{error.filename or output}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from None


def _print(made: dict[str, Any], output: Path | None) -> None:
    added = made.get("boot_image")
    pairs: list[tuple[str, object]] = [
        ("Boot image", f"{added['image_id']} version {added['version']}" if added else ""),
        ("Architecture", made["architecture"]),
        ("Size", size(made["size_bytes"])),
        ("Unpacked", size(made["unpacked_bytes"]) if "unpacked_bytes" in made else ""),
        ("Kernel", f"{made['kernel']}, {made['modules']} modules" if "kernel" in made else ""),
        ("Packages", len(made["packages"]) if "packages" in made else ""),
        ("Files", output or ""),
    ]
    print_fields((name, value) for name, value in pairs if value)
