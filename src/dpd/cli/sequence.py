# SPDX-License-Identifier: Apache-2.0
"""`dpd sequence …`: task sequences, from a document to a published version that deployments name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli import document
from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table
from dpd.errors import DpdError

app = typer.Typer(
    help="Task sequences: check, publish, list, show, export, remove.", no_args_is_help=True, rich_markup_mode=None
)

TOML = "application/toml"
SHOWN_PROBLEMS = 100

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The document (TOML); - is standard input.")]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A sequence; without a version the newest one.")
]


class SequenceUnusable(DpdError):
    """A document that cannot be read or published, or a name that is none; nothing was done."""


@app.command(epilog="Example: dpd sequence check debian.toml")
def check(
    file: FileArgument,
    offline: Annotated[
        bool, typer.Option("--offline", help="Without a daemon: every package is taken to be there.")
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Tell everything that is wrong with a document, line by line, or what it needs. Nothing is published."""
    text = _read(file)
    checked = _check_here(text) if offline else _check(Client(socket), text)
    if as_json:
        print_json(checked)
    _refuse_problems(checked["problems"], file)
    if not as_json:
        _print_outline(checked["outline"])


@app.command(epilog="Example: dpd sequence publish debian.toml")
def publish(
    file: FileArgument,
    version: Annotated[
        int | None,
        typer.Option("--version", metavar="N", min=1, help="Publish as this version, not the next one."),
    ] = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Publish a document as a new version. The text of the newest version changes nothing.

    At a site server (`dpd --site sequence publish`) it is for all points: each takes it with the site's policy, and signs it.
    """
    text, client = _read(file), Client(socket)
    checked = _check(client, text)
    if as_json and checked["problems"]:
        print_json(checked)
    _refuse_problems(checked["problems"], file)
    published = client.post_text("sequences", text=text, content_type=TOML, version=version)
    if as_json:
        print_json(published)
        return
    named = _named(published["version"])
    if published["is_new"]:
        name = published["version"]["name"]
        print(f"{named}: published; `dpd deployment add --sequence {name} …` deploys it")
    else:
        print(f"{named}: says the same already; nothing was published")


@app.command("list", epilog="Example: dpd sequence list")
def list_sequences(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the published task sequences in their newest versions."""
    reply = Client(socket).get("sequences")
    if as_json:
        print_json(reply)
        return
    rows = (
        (each["name"], each["version"], each["steps"], moment(each["published_at"]), each["actor"], each["description"])
        for each in reply["sequences"]
    )
    print_table(
        ("NAME", "VERSION>", "STEPS>", "PUBLISHED", "BY", "DESCRIPTION"),
        rows,
        empty="No task sequence is published; `dpd sequence publish FILE` publishes one.",
    )


@app.command(epilog="Example: dpd sequence show debian@3")
def show(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show a version's steps, what it needs, and who deploys it."""
    called, version = _reference(name)
    details = Client(socket).get("sequences", called, version=version or None)
    if as_json:
        print_json(details)
        return
    head = details["version"]
    print_fields(
        [
            ("Version", f"{head['version']}, published {moment(head['published_at'])} by {head['actor']}"),
            ("Versions", ", ".join(str(each["version"]) for each in details["versions"])),
            ("Deployments", ", ".join(map(str, details["deployments"])) or "-"),
        ]
    )
    if details["outline"] is not None:
        _print_outline(details["outline"])
    for each in details["problems"]:
        print(document.problem_line(_named(head), each["line"], each["place"], each["message"]))


@app.command(epilog="Example: dpd sequence export debian@3 -f debian.toml")
def export(
    name: NameArgument,
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "-",
    signed: Annotated[
        bool, typer.Option("--signed", help="As targets take it, signed, instead of as it was written.")
    ] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Write a version down as it was published, comments and all."""
    called, version = _reference(name)
    reply = Client(socket).get("sequences", called, "text", version=version or None)
    if signed and not reply["document"]:
        raise SequenceUnusable(
            "a site server signs nothing, its points do; expected one, such as `dpd --dp NAME sequence export … --signed`"
        )
    text = reply["document"] + "\n" if signed else reply["text"]
    if file != "-":
        _write(Path(file), text)
    if as_json:
        print_json(reply)
    elif file == "-":
        sys.stdout.write(text)
    else:
        print(f"{file}: written, {_named(reply)}")


@app.command(epilog="Example: dpd sequence remove debian@2")
def remove(
    name: NameArgument,
    all_versions: Annotated[bool, typer.Option("--all", help="Every version of it.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Take out one version, or all of them. Numbers are not given again."""
    called, version = _reference(name)
    if bool(version) == all_versions:
        raise typer.BadParameter(f"expected one version such as {called}@1, or --all")
    reply = Client(socket).delete("sequences", called, version=version or None)
    if as_json:
        print_json(reply)
    else:
        print("\n".join(f"{_named(each)}: removed" for each in reply["removed"]))


def _named(version: dict[str, Any]) -> str:
    return f"{version['name']}@{version['version']}"


def _reference(text: str) -> tuple[str, int]:
    from dpd.sequence.reference import parse_reference

    return parse_reference(text)


def _check(client: Client, text: bytes) -> dict[str, Any]:
    checked: dict[str, Any] = client.post_text("sequences", "check", text=text, content_type=TOML)
    return checked


def _check_here(text: bytes) -> dict[str, Any]:
    from dataclasses import asdict

    from dpd.control.operations.sequence import SequenceCheck, outline
    from dpd.sequence.checks import check_sequence
    from dpd.sequence.document import read_document

    read = read_document(text.decode("utf-8"))
    if read.sequence is None:
        return asdict(SequenceCheck(None, list(read.problems)))
    problems = check_sequence(read.sequence, None)
    return asdict(SequenceCheck(outline(read.sequence), list(problems)))


def _read(file: str) -> bytes:
    """What may be asked about; what is no text, or too much, is told here, where its file is known."""
    from dpd.sequence.document import MAX_DOCUMENT_BYTES

    try:
        text = document.read(file)
        text.decode("utf-8")
    except OSError as error:
        raise SequenceUnusable(f"{file}: {error.strerror}; expected a task sequence's document") from None
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise SequenceUnusable(f"{file}:{line}: not UTF-8 text; save the file as UTF-8") from None
    if len(text) > MAX_DOCUMENT_BYTES:
        message = f"{len(text)} bytes, expected at most {MAX_DOCUMENT_BYTES}; put large files into a package"
        raise SequenceUnusable(f"{file}: {message}")
    return text


def _write(path: Path, text: str) -> None:
    try:
        document.write(path, text)
    except OSError as error:
        raise SequenceUnusable(f"{path}: {error.strerror}; expected a folder that may be written to") from None


def _refuse_problems(problems: list[dict[str, Any]], file: str) -> None:
    """Each as editors know where to go to."""
    for each in problems[:SHOWN_PROBLEMS]:
        print(document.problem_line(file, each["line"], each["place"], each["message"]), file=sys.stderr)
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise SequenceUnusable(f"{file}: {count}; nothing was published")


def _print_outline(outline: dict[str, Any]) -> None:
    print_fields(
        [
            ("Name", outline["name"]),
            ("Description", outline["description"] or "-"),
            ("For", ", ".join((*outline["architectures"], *outline["firmware"])) or "any machine"),
            ("Time limit", f"{outline['time_limit_s']} s"),
            ("Packages", ", ".join(outline["packages"]) or "-"),
            ("Variables to set", ", ".join(outline["variables"]) or "-"),
        ]
    )
    rows = (
        (
            each["id"],
            "  " * each["id"].count(".") + document.printable(each["name"]),
            each["do"] or "group",
            _remarks(each),
        )
        for each in outline["members"]
    )
    print_table(("STEP", "NAME", "DOES", "REMARKS"), rows, empty="No steps.")


def _remarks(member: dict[str, Any]) -> str:
    said = {
        "off": not member["is_enabled"],
        "on condition": member["is_conditional"],
        "goes on after an error": member["continue_on_error"],
    }
    return ", ".join(word for word, holds in said.items() if holds)
