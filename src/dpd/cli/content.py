# SPDX-License-Identifier: Apache-2.0
"""`dpd content …`: what the library holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.client import Client, plain_name
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import follow_job, moment, print_fields, print_json, print_table, progress_bar, size
from dpd.errors import ContentError

app = typer.Typer(help="Publish, list, verify and remove images.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: dpd content add install.wim --package LAB00001")
def add(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The file to publish, such as install.wim.")],
    package: Annotated[str, typer.Option(metavar="ID", help="Package ID: 1 to 64 of A-Z a-z 0-9 . _ -")],
    source_version: Annotated[
        int | None, typer.Option(metavar="N", help="Without it: the newest version plus one.")
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="The daemon reads the file itself: no second copy, but its user and unit (ProtectHome=) must see it.",
        ),
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Publish an image: it is sent to the daemon, checked, hashed and signed."""
    client = Client(socket)
    with progress_bar(quiet=as_json) as bar:
        if in_place:
            body = {"path": str(image.resolve()), "package_id": package, "source_version": source_version}
            content = follow_job(client.follow("content", body=body), "publishing", bar)
        else:
            content = _upload(client, image, package, source_version, bar)
    _print_content(content, as_json)


def _upload(client: Client, image: Path, package: str, source_version: int | None, bar: Any) -> dict[str, Any]:
    try:
        with image.open("rb") as file:
            total = image.stat().st_size
            lines = client.upload(
                file,
                "content",
                size_bytes=total,
                sent=lambda done: bar("sending", done, total),
                package_id=package,
                source_version=source_version,
                name=plain_name(image),
            )
            return follow_job(lines, "publishing", bar)
    except OSError as error:
        raise ContentError(f"{image}: {error.strerror}; expected an image such as install.wim") from None


@app.command("list", epilog="Example: dpd content list --json")
def list_content(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List every version of every package."""
    reply = Client(socket).get("content")
    if as_json:
        print_json(reply)
        return
    rows = (
        (c["package_id"], c["source_version"], c["kind"], size(c["size_bytes"]), moment(c["added_at"]), c["name"])
        for c in reply["content"]
    )
    print_table(
        ("PACKAGE", "VERSION>", "KIND", "SIZE>", "ADDED", "FILE"),
        rows,
        empty="The library is empty; `dpd content add IMAGE --package ID` publishes an image.",
    )


@app.command(epilog="Example: dpd content show LAB00001")
def show(
    package: PackageArgument,
    source_version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show one version, or the newest, with the images inside."""
    content = Client(socket).get("content", package, source_version=source_version)
    _print_content(content, as_json)
    if content["images"] and not as_json:
        rows = ((i["index"], i["name"], i["architecture"], size(i["size_bytes"])) for i in content["images"])
        print_table(("INDEX>", "IMAGE", "ARCHITECTURE", "SIZE>"), rows, empty="")


@app.command(epilog="Example: dpd content verify LAB00001")
def verify(
    package: PackageArgument,
    source_version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Read the content from disk again and compare every slab with its signed hash."""
    with progress_bar(quiet=as_json) as bar:
        lines = Client(socket).follow("content", package, "verify", source_version=source_version)
        content = follow_job(lines, "verifying", bar)
    if as_json:
        print_json(content)
    else:
        print(
            f"{content['package_id']} version {content['source_version']}: all {content['slab_count']} slabs are right"
        )


@app.command(epilog="Example: dpd content remove LAB00001 --source-version 1")
def remove(
    package: PackageArgument,
    source_version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Remove one version, or the newest; its multicast session ends."""
    content = Client(socket).delete("content", package, source_version=source_version)
    if as_json:
        print_json(content)
    else:
        print(f"{content['package_id']} version {content['source_version']}: removed")


def _print_content(content: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(content)
        return
    print_fields(
        [
            ("Package", f"{content['package_id']} version {content['source_version']}"),
            ("File", f"{content['name']} ({content['kind']})"),
            ("Size", f"{size(content['size_bytes'])} ({content['size_bytes']} bytes, {content['slab_count']} slabs)"),
            ("SHA-256", content["sha256"]),
            ("Added", moment(content["added_at"])),
            ("Images", len(content["images"])),
        ]
    )
