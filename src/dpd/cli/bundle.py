# SPDX-License-Identifier: Apache-2.0
"""`dpd bundle …`: content in one file, to be carried where the network does not reach."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.distribution import follow
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table, progress_bar, size
from dpd.errors import ContentError

app = typer.Typer(
    help="Content in one signed file: export, import, look into it.", no_args_is_help=True, rich_markup_mode=None
)

STDIO = Path("-")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE|-", help="The bundle; - is standard input.")]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="The daemon opens the file itself: as a job, which goes on without you.")
]


@app.command(epilog="Example: dpd bundle export LAB00001 LAB00002:3 --output site.dpd --since branch.json")
def export(
    packages: Annotated[
        list[str] | None, typer.Argument(metavar="[PACKAGE[:VERSION]]...", help="Without a version, the newest.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of every package.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Where the bundle goes; - is standard output.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(metavar="DIR", help="No bundle: files in a folder, for a web server or S3.")
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave out what is in this list; `dpd bundle holdings` prints it there."),
    ] = None,
    in_place: InPlaceOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Put packages into a bundle, or into a folder for a web server."""
    names = packages or []
    if bool(names) == every:
        raise typer.BadParameter("expected packages, or --all")
    if (output is None) == (repository is None):
        raise typer.BadParameter("expected one of --output and --repository")
    client = Client(socket)
    if output is None or in_place:
        body = {"packages": ",".join(names), "path": _absolute(output), "repository": _absolute(repository)}
        job = client.post("bundles", "export-jobs", body=body | {"since": _absolute(since)})
        follow(client, job, as_json=as_json)
        return
    held = _read_file(since, "what `dpd bundle holdings` printed") if since else b""
    with _output(output) as file, progress_bar(quiet=as_json or output == STDIO) as bar:
        pieces = client.download("bundles", "export", body=held, write=file.write, packages=",".join(names))
        count = 0
        for count, total in pieces:
            bar("exporting", count, total)
    if output != STDIO:
        print_json({"path": str(output), "size_bytes": count}) if as_json else print(f"{output}: {size(count)}")


@app.command("import", epilog="Example: dpd bundle import site.dpd")
def import_bundle(
    file: FileArgument,
    key: Annotated[
        str,
        typer.Option(metavar="HEX", help="Whose bundle it is, where that is none of the sources: `dpd status` there."),
    ] = "",
    in_place: InPlaceOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Take a bundle in; what is here already stays. One that was cut off goes on where it was."""
    client = Client(socket)
    if in_place:
        job = client.post("bundles", "import-jobs", body={"path": _absolute(file), "key": key})
        follow(client, job, as_json=as_json)
        return
    done: dict[str, Any] = {}
    with _input(file) as (bundle, total), progress_bar(quiet=as_json) as bar:
        lines = client.upload(
            bundle,
            "bundles",
            "import",
            size_bytes=total,
            sent=lambda count: bar("sending", count, total or count),
            **({"key": key} if key else {}),
        )
        for line in lines:
            done = line["content"]
    print_json(done) if as_json else _print_imported(done)


def _print_imported(done: dict[str, Any]) -> None:
    for content in done["contents"]:
        print(f"{content['package_id']} version {content['source_version']}: imported, {size(content['size_bytes'])}")
    for content in done["known"]:
        print(f"{content['package_id']} version {content['source_version']}: was here")
    print(f"{size(done['received_bytes'])} written, {size(done['present_bytes'])} were here")


@app.command("list", epilog="Example: dpd bundle list site.dpd")
def list_bundle(
    file: FileArgument,
    check: Annotated[bool, typer.Option("--check", help="Read all of it and compare every byte.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a bundle and who signed it. Needs no daemon."""
    from dpd.distribution.bundles.bundle import files_of, open_bundle

    with _input(file) as (bundle, total), progress_bar(quiet=as_json or not check) as bar:
        opened = open_bundle(bundle.read)
        listing = opened.listing
        if check:
            for _, _, pieces in files_of(opened):
                for _ in pieces:
                    bar("reading", opened.archive.offset, total or opened.archive.offset)
    shown = {
        "public_key": opened.signer.hex(),
        "created_at": listing.created_at,
        "packages": [{"package_id": package_id, "source_version": version} for package_id, version in listing.packages],
        "files": len(listing.files),
        "size_bytes": sum(each.size_bytes for each in listing.files),
        "is_checked": check,
    }
    if as_json:
        print_json(shown)
        return
    print_fields(
        [
            ("Signed by", shown["public_key"]),
            ("Made", moment(listing.created_at)),
            ("Files", f"{len(listing.files)}, {size(sum(each.size_bytes for each in listing.files))}"),
            ("Compared", "every byte is right" if check else "no; --check does"),
        ]
    )
    print_table(("PACKAGE", "VERSION>"), listing.packages, empty="No package: who asked for it has everything.")


@app.command(epilog="Example: dpd bundle holdings --output branch.json")
def holdings(
    output: Annotated[Path, typer.Option(metavar="FILE|-", help="Where the list goes.")] = STDIO,
    socket: SocketOption = DEFAULT_SOCKET,
) -> None:
    """Print what is here, for `dpd bundle export --since` on another distribution point."""
    import json

    document = json.dumps(Client(socket).get("bundles", "holdings"), sort_keys=True, separators=(",", ":"))
    with _output(output) as file:
        file.write(document.encode() + b"\n")


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.absolute())


def _read_file(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}; expected {expected}") from None


@contextmanager
def _input(path: Path) -> Iterator[tuple[IO[bytes], int | None]]:
    """The file and its length, which a pipe does not tell."""
    if path == STDIO:
        yield sys.stdin.buffer, None
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}; expected a bundle that `dpd bundle export` wrote") from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


@contextmanager
def _output(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole; or standard output, if that is no terminal."""
    if path == STDIO:
        if sys.stdout.isatty():
            raise typer.BadParameter("--output - would fill the terminal; send it into a file or a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}; name a file in a folder with room") from None
    finally:
        part.unlink(missing_ok=True)
