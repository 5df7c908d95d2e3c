# SPDX-License-Identifier: Apache-2.0
"""`dpd content images|export-image|verify-images`: what is in the WIMs of the library."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import follow_job, moment, print_fields, print_json, print_table, progress_bar, size

FileOption = Annotated[
    str | None,
    typer.Option(
        "--file", metavar="PATH", help="The WIM in a folder; without it its sources/install.wim, or its only one."
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `dpd content`."""
    app.command(epilog="Example: dpd content images LAB00001")(images)
    app.command("export-image", epilog="Example: dpd content export-image LAB00001 6 LAB00002")(export_image)
    app.command("verify-images", epilog="Example: dpd content verify-images LAB00001")(verify_images)


def images(
    package: PackageArgument,
    source_version: VersionOption = None,
    file: FileOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List the images in a WIM: edition, version, architecture, languages and sizes."""
    found = Client(socket).get("content", package, "images", source_version=source_version, path=file)
    if as_json:
        print_json(found)
        return
    _print_wim(found)
    print()
    rows = (
        (
            i["index"],
            i["name"],
            i["edition"] or "-",
            i["version"] or "-",
            i["architecture"] or "-",
            ", ".join(i["languages"]) or "-",
            i["file_count"],
            size(i["size_bytes"]),
            moment(i["created_at"]) if i["created_at"] else "-",
        )
        for i in found["images"]
    )
    print_table(
        ("INDEX>", "IMAGE", "EDITION", "VERSION", "ARCHITECTURE", "LANGUAGES", "FILES>", "SIZE>", "CREATED"),
        rows,
        empty="There are no images in it.",
    )


def export_image(
    package: PackageArgument,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=1, help="The image's index, as `images` lists it.")],
    new_package: Annotated[str, typer.Argument(metavar="NEW_PACKAGE", help="The package that the image becomes.")],
    source_version: VersionOption = None,
    new_version: Annotated[
        int | None, typer.Option("--new-version", metavar="N", help="Without it: its newest version plus one.")
    ] = None,
    file: FileOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Publish one image of a WIM as a package of its own; the WIM it is from stays as it is."""
    body = {"package_id": new_package, "source_version": new_version}
    with progress_bar(quiet=as_json) as bar:
        lines = Client(socket).follow(
            "content", package, "images", str(index), "export", body=body, source_version=source_version, path=file
        )
        content = follow_job(lines, "exporting", bar)
    if as_json:
        print_json(content)
        return
    print_fields(
        [
            ("Package", f"{content['package_id']} version {content['source_version']}"),
            ("Image", content["images"][0]["name"]),
            ("File", content["name"]),
            ("Size", f"{size(content['size_bytes'])} ({content['size_bytes']} bytes)"),
            ("SHA-256", content["sha256"]),
            ("Tags", ", ".join(content["tags"]) or "-"),
        ]
    )


def verify_images(
    package: PackageArgument,
    source_version: VersionOption = None,
    file: FileOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Compare what is in a WIM with the SHA-1 that the WIM itself gives: finds what was damaged before it was published."""
    with progress_bar(quiet=as_json) as bar:
        lines = Client(socket).follow("content", package, "images", "verify", source_version=source_version, path=file)
        found = follow_job(lines, "verifying", bar)
    if as_json:
        print_json(found)
        return
    print(f"{found['package_id']} version {found['source_version']}, {found['file']}: {_verdict(found)}")


def _verdict(found: dict[str, Any]) -> str:
    if not found["unchecked"]:
        return f"all {found['resources']} resources are right"
    return (
        f"{found['checked']} of {found['resources']} resources are right; the others are compressed, and to look into them "
        "needs wimlib-imagex: `apt install wimtools`"
    )


def _print_wim(found: dict[str, Any]) -> None:
    how = [found["compression"] if found["compression"] != "none" else "not compressed"]
    how += [f"chunks of {size(found['chunk_bytes'])}"] if found["chunk_bytes"] else []
    how += [word for word in ("solid", "pipable") if found[word]]
    how += ["integrity table"] if found["has_integrity"] else []
    parts = f" in {found['parts']} parts" if found["parts"] > 1 else ""
    print_fields(
        [
            ("Package", f"{found['package_id']} version {found['source_version']}"),
            ("File", f"{found['file']}{parts}"),
            ("Format", ", ".join(how)),
            (
                "Size",
                f"{size(found['size_bytes'])}; taken out {size(found['blob_bytes'])} in {found['blobs']} different files",
            ),
            ("Boot image", found["boot_index"] or "-"),
        ]
    )
