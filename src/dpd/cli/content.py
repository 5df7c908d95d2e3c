# SPDX-License-Identifier: Apache-2.0
"""`dpd content …`: what the library holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.client import Client, plain_name
from dpd.cli.distribution import PRIORITIES, NoWaitOption, order
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import follow_job, moment, print_fields, print_json, print_table, progress_bar, size
from dpd.content.kinds import ContentKind
from dpd.errors import ContentError

PAGE = 1000

app = typer.Typer(help="Publish, list, tag, verify and remove content.", no_args_is_help=True, rich_markup_mode=None)


KindOption = Annotated[str | None, typer.Option("--kind", metavar="KIND", help=f"One of {', '.join(ContentKind)}.")]
TagsOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help='A word or "key=value"; may be repeated.')
]


@app.command("add", hidden=True)
@app.command(epilog="Example: dpd content publish install.wim --package LAB00001 --tag language=de-DE")
def publish(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A file such as install.wim, a folder, or the first part of a split WIM."
        ),
    ],
    package: Annotated[str, typer.Option(metavar="ID", help="Package ID: 1 to 64 of A-Z a-z 0-9 . _ -")],
    source_version: Annotated[
        int | None, typer.Option(metavar="N", help="Without it: the newest version plus one.")
    ] = None,
    kind: KindOption = None,
    tag: TagsOption = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="The daemon reads the source itself: no second copy, but its user and unit (ProtectHome=) must see it. "
            "Folders and split WIMs always go this way.",
        ),
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Publish a file, a folder or a split WIM: it is checked, hashed and signed."""
    client = Client(socket)
    new = {"package_id": package, "source_version": source_version, "kind": kind}
    with progress_bar(quiet=as_json) as bar:
        if in_place or source.is_dir() or source.suffix.lower() == ".swm":
            body = {"path": os.path.abspath(source), "tags": tag or [], **new}
            content = follow_job(client.follow("content", body=body), "publishing", bar)
        else:
            content = _upload(client, source, bar, tags=",".join(tag or []), **new)
    _print_content(content, as_json)


def _upload(client: Client, source: Path, bar: Any, **query: object) -> dict[str, Any]:
    try:
        with source.open("rb") as file:
            total = source.stat().st_size
            lines = client.upload(
                file,
                "content",
                size_bytes=total,
                sent=lambda done: bar("sending", done, total),
                name=plain_name(source),
                **query,
            )
            return follow_job(lines, "publishing", bar)
    except OSError as error:
        raise ContentError(f"{source}: {error.strerror}; expected an image such as install.wim") from None


@app.command("list", epilog="Example: dpd content list --tag language=de-DE --newest")
def list_content(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Stands in the package ID or the name.")] = "",
    kind: KindOption = None,
    tag: TagsOption = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest version of each package alone.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many.")] = 2**31,
    after: Annotated[str, typer.Option(metavar="ID/N", help="Go on behind this one, as the page before tells.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List every version of every package, or those that a query finds."""
    query = {"text": text, "kind": kind, "tags": ",".join(tag or []), "newest": str(newest).lower()}
    found, after = _pages(Client(socket), query, limit, after)
    if as_json:
        print_json({"content": found, "next": after})
        return
    rows = (
        (
            c["package_id"],
            c["source_version"],
            c["kind"],
            size(c["size_bytes"]),
            c["file_count"],
            moment(c["added_at"]),
            c["name"],
            " ".join(c["tags"]),
        )
        for c in found
    )
    nothing = "The library is empty; `dpd content publish SOURCE --package ID` publishes a file or a folder."
    if text or kind or tag or after:
        nothing = "Nothing in the library is like that; `dpd content list` shows all of it."
    print_table(("PACKAGE", "VERSION>", "KIND", "SIZE>", "FILES>", "ADDED", "NAME", "TAGS"), rows, empty=nothing)
    if after:
        print(f"There is more: --after {after}")


def _pages(client: Client, query: dict[str, Any], limit: int, after: str) -> tuple[list[dict[str, Any]], str]:
    """So many, and where to go on."""
    found: list[dict[str, Any]] = []
    while True:
        reply = client.get("content", after=after, limit=min(PAGE, limit - len(found)), **query)
        found, after = found + reply["content"], reply["next"]
        if not after or len(found) >= limit:
            return found, after


@app.command(epilog="Example: dpd content show LAB00001")
def show(
    package: PackageArgument,
    source_version: VersionOption = None,
    files: Annotated[bool, typer.Option("--files", help="List its files instead.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show one version, or the newest, with the images inside."""
    client = Client(socket)
    content = client.get("content", package, source_version=source_version)
    if files:
        _print_files(client, content, as_json)
        return
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
        parts = f"{content['slab_count']} slabs" if content["slab_count"] else f"{content['file_count']} files"
        print(f"{content['package_id']} version {content['source_version']}: all {parts} are right")


@app.command(epilog="Example: dpd content remove LAB00001 --source-version 1")
def remove(
    package: PackageArgument,
    source_version: VersionOption = None,
    every_version: Annotated[
        bool, typer.Option("--every-version", help="All of the package, as a job; jobs that bring it end.")
    ] = False,
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Remove one version, or the newest, at once; its multicast session ends. With --every-version, the package."""
    if every_version:
        if source_version is not None:
            raise typer.BadParameter("--every-version and --source-version: expected one of them")
        order(Client(socket), "remove", package, None, PRIORITIES["normal"], no_wait, as_json)
        return
    content = Client(socket).delete("content", package, source_version=source_version)
    if as_json:
        print_json(content)
    else:
        print(f"{content['package_id']} version {content['source_version']}: removed")


@app.command(epilog="Example: dpd content tag LAB00001 room=12 --remove room=11")
def tag(
    package: PackageArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help='Words, or "key=value".')] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Take this one away.")] = None,
    source_version: VersionOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Give one version, or the newest, tags that queries find it by."""
    body = {"add": tags or [], "remove": remove or []}
    content = Client(socket).patch("content", package, "tags", body=body, source_version=source_version)
    if as_json:
        print_json(content)
    else:
        told = " ".join(content["tags"]) or "no tags"
        print(f"{content['package_id']} version {content['source_version']}: {told}")


@app.command(epilog="Example: dpd content gc --delete")
def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is found; without it, it is only told.")
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Look for what nobody needs in the library: blobs, parts of tries that ended, files that belong to nothing."""
    report: dict[str, Any] = follow_job(
        Client(socket).follow("library", "gc", body={"delete": delete}), "looking", lambda stage, done, total: None
    )
    if as_json:
        print_json(report)
        return
    for path in report["examples"]:
        print(path)
    found = f"{report['garbage_blobs']} blobs, {report['stale_parts']} parts and {report['orphan_files']} other files"
    print(f"{found}, {size(report['freed_bytes'])}: {'removed' if delete else 'would be removed by --delete'}")
    for sha256 in report["missing"]:
        print(f"missing: blob {sha256}; publish it again, or let validation fetch it")


def _print_files(client: Client, content: dict[str, Any], as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        asked = {"source_version": content["source_version"], "after": after, "limit": PAGE}
        reply = client.get("content", content["package_id"], "files", **asked)
        found, after = found + reply["files"], reply["next"]
        if not after:
            break
    if as_json:
        print_json({"files": found})
        return
    print_table(
        ("SIZE>", "SHA-256", "PATH"), ((size(f["size_bytes"]), f["sha256"], f["path"]) for f in found), empty=""
    )


def _print_content(content: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(content)
        return
    parts = f"{content['slab_count']} slabs" if content["slab_count"] else f"{content['file_count']} files"
    print_fields(
        [
            ("Package", f"{content['package_id']} version {content['source_version']}"),
            ("Name", f"{content['name']} ({content['format']})"),
            ("Kind", content["kind"]),
            ("Size", f"{size(content['size_bytes'])} ({content['size_bytes']} bytes, {parts})"),
            ("SHA-256", content["sha256"]),
            ("Added", moment(content["added_at"])),
            ("Images", len(content["images"])),
            ("Tags", " ".join(content["tags"])),
        ]
    )
