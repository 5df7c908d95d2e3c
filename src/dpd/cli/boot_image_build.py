# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-image build`: the deployment environment, made on this machine and added as a boot image."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.boot_image_upload import upload
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import print_fields, print_json, progress_bar, size
from dpd.errors import BuildError

COMMAND_LINE = "quiet panic=30 dpd.mac={mac}"
CACHE = "~/.cache/dpd/packages"


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
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Build the deployment environment out of Debian's packages, or into your WinPE, and add it as a boot image."""
    from dpd.boot.winpe import boot_image_of
    from dpd.environment import linux_image, winpe_image
    from dpd.environment.architectures import architecture
    from dpd.environment.packages import Packages, read_list
    from dpd.target import bundle

    if not image_id and output is None:
        raise typer.BadParameter("expected --id to add it as a boot image, or --output to keep its files, or both")
    client = Client(socket)
    key = public_key or (str(client.get("status")["public_key"]) if image_id else "")
    authorities = _read(ca_file) if ca_file else b""
    with tempfile.TemporaryDirectory(prefix="dpd-boot-image-") as work, progress_bar(quiet=as_json) as bar:
        folder = Path(work)
        target = folder / "dpd-target.pyz"
        bundle.build(target)
        made: dict[str, Any]
        if winpe is not None:
            index, summary = boot_image_of(winpe)
            wish = winpe_image.WinpeWish(winpe, index, target, python, authorities, key, start)
            files = [winpe_image.build(wish, folder)]
            arch, query = summary.architecture, {"kind": "winpe", "description": "Deployment environment (WinPE)"}
            made = {"architecture": arch, "size_bytes": files[0].stat().st_size}
        else:
            found = architecture(arch)
            pinned = list(read_list(_read(packages).decode("utf-8", "replace"), packages.name)) if packages else []
            fetched = Packages(found.debian, cache.expanduser(), sources=sources, pinned=pinned)
            asked = linux_image.Wish(
                found, target, linux_image.build_time() or int(time.time()), authorities, key,
                with_grub=not without_grub, quickly=quickly,
            )  # fmt: skip
            image = linux_image.build(asked, fetched, folder, lambda stage: bar(stage, 0, 0))
            files = [image.kernel, image.initramfs]
            query = {"kind": "linux", "architecture": arch, "description": "Deployment environment"}
            query["command_line"] = f"{COMMAND_LINE} {cmdline}".strip()
            made = {
                "architecture": arch, "size_bytes": image.size_bytes, "unpacked_bytes": image.unpacked_bytes,
                "kernel": image.release, "modules": image.modules, "packages": [str(each) for each in image.packages],
            }  # fmt: skip
        if output is not None:
            _keep(folder, output)
        if image_id:
            made["boot_image"] = upload(client, files, {"image_id": image_id, **query}, bar)
    if as_json:
        print_json(made)
    else:
        _print(made, output)


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
