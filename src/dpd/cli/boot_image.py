# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-image …`: what machines boot over the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from dpd.cli import boot_image_build
from dpd.cli.boot_image_upload import upload
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import follow_job, moment, print_fields, print_json, print_table, progress_bar, size

app = typer.Typer(help="Add, list, refresh and remove boot images.", no_args_is_help=True, rich_markup_mode=None)

app.command(epilog="Example: dpd boot-image build --id LAB00010")(boot_image_build.build)

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Boot image ID, such as LAB00005.")]
VersionOption = Annotated[
    int | None, typer.Option("--version", metavar="N", help="This version instead of the newest.")
]


@app.command(epilog="Example: dpd boot-image add boot.wim --id LAB00005")
def add(
    image_id: Annotated[str, typer.Option("--id", metavar="ID", help="Boot image ID: 1 to 64 of A-Z a-z 0-9 . _ -")],
    wim: Annotated[Path | None, typer.Argument(metavar="[WIM]", help="A Windows PE image, such as boot.wim.")] = None,
    kernel: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of a WIM: a Linux kernel.")] = None,
    initrd: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Its initrds, in order.")] = None,
    cmdline: Annotated[
        str, typer.Option(metavar="TEXT", help="Its command line; {server}, {http_port}, {mac}, {guid} are filled in.")
    ] = "",
    arch: Annotated[str, typer.Option(metavar="ARCH", help="x86, x64 or arm64, for a kernel that does not tell.")] = "",
    efi: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of a WIM: one EFI program.")] = None,
    sdi: Annotated[Path | None, typer.Option(metavar="FILE", help="A boot.sdi, for a WIM without one.")] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What whoever sits at the machine reads.")] = "",
    is_default: Annotated[bool, typer.Option("--default", help="An image of the site, not an operator's own.")] = False,
    via_ipxe: Annotated[
        bool, typer.Option("--via-ipxe", help="Firmware gets the loader of the rules first, an iPXE, also for Windows.")
    ] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="The daemon reads the files itself; its user and unit must see them.")
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Add a boot image, or a new version of one: a WIM, a kernel with its initrds, or an EFI program."""
    kind, files = _chosen(wim, kernel, initrd or [], efi)
    told = {
        "image_id": image_id,
        "kind": kind,
        "command_line": cmdline,
        "description": description,
        "architecture": arch,
    }
    flags = {"is_default": is_default, "via_ipxe": via_ipxe}
    client = Client(socket)
    with progress_bar(quiet=as_json) as bar:
        if in_place:
            body = {**told, **flags, "files": [str(path.resolve()) for path in files]}
            lines = client.follow("boot-images", body=body | ({"sdi": str(sdi.resolve())} if sdi else {}))
            image = follow_job(lines, "adding", bar)
        else:
            query = told | {name: "true" for name, is_set in flags.items() if is_set}
            image = upload(client, [*files, *([sdi] if sdi else [])], query, bar)
    _print_image(image, as_json)


def _chosen(wim: Path | None, kernel: Path | None, initrds: list[Path], efi: Path | None) -> tuple[str, list[Path]]:
    """The kind and its files, from the one source that is given."""
    given = [name for name, path in (("WIM", wim), ("--kernel", kernel), ("--efi", efi)) if path]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise typer.BadParameter(f"expected a WIM, --kernel or --efi, and one of them; got {found}")
    if initrds and not kernel:
        raise typer.BadParameter("--initrd goes with --kernel")
    if wim:
        return "winpe", [wim]
    return ("linux", [kernel, *initrds]) if kernel else ("efi", cast(list[Path], [efi]))


@app.command("list", epilog="Example: dpd boot-image list --json")
def list_images(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List every version of every boot image."""
    reply = Client(socket).get("boot-images")
    if as_json:
        print_json(reply)
        return
    rows = (
        (i["image_id"], i["version"], i["kind"], ", ".join(i["firmware"]), size(i["size_bytes"]), moment(i["added_at"]), i["description"])
        for i in reply["boot_images"]
    )  # fmt: skip
    print_table(
        ("IMAGE", "VERSION>", "KIND", "BOOTS ON", "SIZE>", "ADDED", "DESCRIPTION"),
        rows,
        empty="There are no boot images; `dpd boot-image add boot.wim --id ID` adds one.",
    )


@app.command(epilog="Example: dpd boot-image show LAB00005")
def show(
    image: ImageArgument,
    version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show one version, or the newest, with its files."""
    found = Client(socket).get("boot-images", image, version=version)
    _print_image(found, as_json)
    if not as_json:
        print_table(("FILE",), ((name,) for name in found["files"]), empty="")


@app.command(epilog="Example: dpd boot-image refresh LAB00005")
def refresh(image: ImageArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take the loaders, boot.sdi and fonts out of the newest version's WIM again, as a new version of the same WIM."""
    with progress_bar(quiet=as_json) as bar:
        found = follow_job(Client(socket).follow("boot-images", image, "refresh"), "refreshing", bar)
    _print_image(found, as_json)


@app.command(epilog="Example: dpd boot-image remove LAB00005 --version 1")
def remove(
    image: ImageArgument,
    version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Remove one version, or the newest; machines that read its files read on."""
    found = Client(socket).delete("boot-images", image, version=version)
    if as_json:
        print_json(found)
    else:
        print(f"{found['image_id']} version {found['version']}: removed")


def _print_image(image: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(image)
        return
    pairs: list[tuple[str, object]] = [
        ("Boot image", f"{image['image_id']} version {image['version']}"),
        ("Description", image["description"]),
        ("File", f"{image['name']} ({image['kind']}, {image['architecture']})"),
        ("Size", f"{size(image['size_bytes'])} in {len(image['files'])} files"),
        ("Boots on", ", ".join(image["firmware"]) or "nothing"),
        ("Windows", image["os_version"]),
        ("Windows loaders", ", ".join(image["generations"])),
        ("Command line", image["command_line"]),
        ("By way of iPXE", "yes" if image["via_ipxe"] else ""),
        ("Added", moment(image["added_at"])),
    ]
    print_fields((name, value) for name, value in pairs if value)
