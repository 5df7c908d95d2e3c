# SPDX-License-Identifier: Apache-2.0
"""`dpd computer …`: which machines are known, by MAC and GUID."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table
from dpd.cli.variable import of_computer
from dpd.errors import DpdError
from dpd.site.import_formats import ImportFormat

app = typer.Typer(help="Known computers: add, list, remove, import.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(of_computer, name="variable")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The computer's name.")]


class ImportRefused(DpdError):
    """A file of computers with lines that cannot be; nothing was done."""


@app.command(epilog="Example: dpd computer add PC-017 --mac 52:54:00:12:34:56")
def add(
    name: NameArgument,
    mac: Annotated[list[str] | None, typer.Option(metavar="MAC", help="A network address; may be given again.")] = None,
    guid: Annotated[str, typer.Option(metavar="GUID", help="The SMBIOS GUID, as the firmware shows it.")] = "",
    boot_image: Annotated[
        str, typer.Option(metavar="ID", help="The boot image of this computer, instead of its deployments'.")
    ] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Know a computer from now on. One of its MACs or its GUID is enough to be it."""
    body = {"name": name, "macs": mac or [], "guid": guid, "boot_image": boot_image}
    computer = Client(socket).post("computers", body=body)
    if as_json:
        print_json(computer)
    else:
        print(f"{computer['name']}: known; `dpd deployment add --computer {computer['name']}` deploys to it")


@app.command("list", epilog="Example: dpd computer list --json")
def list_computers(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the known computers."""
    reply = Client(socket).get("computers")
    if as_json:
        print_json(reply)
        return
    rows = ((c["name"], " ".join(c["macs"]), c["guid"], c["boot_image"]) for c in reply["computers"])
    print_table(
        ("NAME", "MAC", "GUID", "BOOT IMAGE"),
        rows,
        empty="No computer is known; `dpd computer add NAME --mac MAC` adds one, `dpd computer import FILE.csv` many.",
    )


@app.command(epilog="Example: dpd computer show PC-017")
def show(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show one computer, its deployments and what it has run."""
    details = Client(socket).get("computers", name)
    if as_json:
        print_json(details)
        return
    computer = details["computer"]
    print_fields(
        [
            ("Name", computer["name"]),
            ("MACs", " ".join(computer["macs"]) or "-"),
            ("GUID", computer["guid"] or "-"),
            ("Boot image", computer["boot_image"] or "as deployed"),
            ("Collections", " ".join(details["collections"]) or "-"),
            ("Added", moment(computer["added_at"])),
        ]
    )
    ran = {run["deployment"]: run for run in details["runs"]}
    rows = (
        (d["id"], d["target"], d["purpose"], d["boot_image"] or "default", each["state"], _ran(ran.get(d["id"])))
        for each in details["deployments"]
        for d in [each["deployment"]]
    )
    print_table(
        ("ID>", "FOR", "PURPOSE", "BOOT IMAGE", "STATE", "RUN"),
        rows,
        empty=f"Nothing is deployed to it; `dpd deployment add --computer {computer['name']}` deploys.",
    )


def _ran(run: dict[str, Any] | None) -> str:
    return "-" if run is None else moment(run["started_at"])


@app.command(epilog="Example: dpd computer remove PC-017")
def remove(name: NameArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Know a computer no longer. What it has run is forgotten."""
    computer = Client(socket).delete("computers", name)
    if as_json:
        print_json(computer)
    else:
        print(f"{computer['name']}: removed; it is an unknown computer from now on")


@app.command("import", epilog="Example: dpd computer import room12.csv --dry-run")
def import_computers(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", help="Columns name, mac, guid, boot_image, variable:NAME; a first line names them."
        ),
    ],
    form: Annotated[
        ImportFormat,
        typer.Option(
            "--format", help="Whose file it is: FOG's export of hosts, Configuration Manager's computer information."
        ),
    ] = ImportFormat.DPD,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Add and change computers out of a CSV file: all of them or, where a line is wrong, none."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImportRefused(
            f"{file}: {error.strerror}; expected a CSV file with a first line such as name,mac"
        ) from None
    query = ({"dry_run": "true"} if dry_run else {}) | ({} if form is ImportFormat.DPD else {"format": form.value})
    report = Client(socket).post_text("computers", "import", text=content, content_type="text/csv", **query)
    if as_json:
        print_json(report)
    else:
        _print_report(report, dry_run)
    if report["problems"]:
        count = len(report["problems"])
        raise ImportRefused(f"{file}: {count} {'line is' if count == 1 else 'lines are'} wrong; nothing was imported")


def _print_report(report: dict[str, Any], dry_run: bool) -> None:
    for problem in report["problems"]:
        print(f"line {problem['line']}: {problem['message']}")
    if report["problems"]:
        return
    for computer in report["added"]:
        print(f"+ {_line(computer)}")
    for change in report["changed"]:
        print(f"- {_line(change['old'])}")
        print(f"+ {_line(change['new'])}")
    counts = f"{len(report['added'])} new, {len(report['changed'])} changed, {report['unchanged']} as they were"
    counts += f", variables set: {report['variables']}" if report["variables"] else ""
    print(f"{counts}; nothing was done, since this is a dry run" if dry_run else counts)


def _line(computer: dict[str, Any]) -> str:
    shown = [computer["name"], *computer["macs"], computer["guid"], computer["boot_image"]]
    return " ".join(each for each in shown if each)
