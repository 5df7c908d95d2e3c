# SPDX-License-Identifier: Apache-2.0
"""`dpd deployment …`: which boot image is for which computers, from when to when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, ConfirmOption, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table
from dpd.cli.times import read_moment
from dpd.site.records import Audience, Rerun

app = typer.Typer(help="Deploy boot images to computers.", no_args_is_help=True, rich_markup_mode=None)


IdArgument = Annotated[int, typer.Argument(metavar="ID", help="The deployment, as `dpd deployment list` numbers it.")]


@app.command(epilog="Example: dpd deployment add --computer PC-017 --boot-image LAB00005 --required")
def add(
    computer: Annotated[str, typer.Option(metavar="NAME", help="For this computer.")] = "",
    collection: Annotated[str, typer.Option(metavar="NAME", help="For the members of this collection.")] = "",
    all_computers: Annotated[bool, typer.Option("--all", help="For every known computer.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="For every unknown computer that may boot.")] = False,
    boot_image: Annotated[str, typer.Option(metavar="ID", help="Without it, the default boot image.")] = "",
    required: Annotated[
        bool, typer.Option("--required", help="Boot without a key, once, instead of asking at the machine.")
    ] = False,
    priority: Annotated[int, typer.Option(metavar="N", help="The higher one wins.")] = 0,
    start: Annotated[str, typer.Option("--from", metavar="MOMENT", help="Such as 2026-11-21T20:00+01:00.")] = "",
    end: Annotated[str, typer.Option("--until", metavar="MOMENT", help="Not from this moment on.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="A name of its own, as declarations know it by.")] = "",
    audience: Annotated[
        Audience, typer.Option(help="Whom it is offered to; not to network boots where it is clients.")
    ] = Audience.ALL,
    rerun: Annotated[
        Rerun, typer.Option(help="Whether a machine that was given it as required has it once more.")
    ] = Rerun.NEVER,
    sequence: Annotated[
        str, typer.Option(metavar="NAME[@VERSION]", help="The task sequence that the booted machine takes.")
    ] = "",
    confirm: ConfirmOption = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Deploy a boot image to one computer, a collection, all known ones or the unknown ones."""
    targets = [
        *([computer] if computer else []),
        *([f"collection:{collection}"] if collection else []),
        *(["all"] if all_computers else []),
        *(["unknown"] if unknown else []),
    ]
    if len(targets) != 1:
        raise typer.BadParameter("expected one of --computer NAME, --collection NAME, --all and --unknown")
    body = {
        "target": targets[0],
        "boot_image": boot_image,
        "purpose": "required" if required else "available",
        "priority": priority,
        "available_from": read_moment(start) if start else 0.0,
        "expires_at": read_moment(end) if end else 0.0,
        "name": name,
        "audience": audience.value,
        "rerun": rerun.value,
        "sequence": sequence,
        **({} if confirm is None else {"confirm": confirm}),
    }
    added = Client(socket).post("deployments", body=body)
    if as_json:
        print_json(added)
    else:
        print(f"deployment {added['deployment']['id']}: {_sentence(added)}")


def _sentence(status: dict[str, Any]) -> str:
    deployment = status["deployment"]
    image = f"boot image {deployment['boot_image']}" if deployment["boot_image"] else "the default boot image"
    whom = {"all": "every known computer", "unknown": "every unknown computer"}.get(deployment["target"])
    whom = whom or deployment["target"].replace("collection:", "collection ")
    sequence = f", with task sequence {deployment['sequence']}," if deployment["sequence"] else ""
    return f"{image}{sequence} is {deployment['purpose']} for {whom} ({status['state']})"


@app.command("list", epilog="Example: dpd deployment list")
def list_deployments(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the deployments, the oldest first."""
    reply = Client(socket).get("deployments")
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            d["id"],
            d["name"] or "-",
            d["target"],
            each["reaches"] if d["target"] != "unknown" else "-",
            d["boot_image"] or "default",
            d["sequence"] or "-",
            d["purpose"],
            d["priority"],
            _moment(d["available_from"]),
            _moment(d["expires_at"]),
            each["state"],
            each["runs"] if d["purpose"] == "required" else "-",
        )
        for each in reply["deployments"]
        for d in [each["deployment"]]
    )
    print_table(
        (
            "ID>",
            "NAME",
            "FOR",
            "REACHES>",
            "BOOT IMAGE",
            "SEQUENCE",
            "PURPOSE",
            "PRIORITY>",
            "FROM",
            "UNTIL",
            "STATE",
            "RUNS>",
        ),
        rows,
        empty="Nothing is deployed; `dpd deployment add --computer NAME --boot-image ID` deploys.",
    )


@app.command(epilog="Example: dpd deployment show 3")
def show(id: IdArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show one deployment and the machines that were given it."""
    reply = Client(socket).get("deployments", str(id))
    if as_json:
        print_json(reply)
        return
    deployment = reply["deployment"]
    print_fields(
        [
            ("Deployment", f"{deployment['id']}: {_sentence(reply)}"),
            ("Name", deployment["name"] or "-"),
            ("Audience", deployment["audience"]),
            ("Rerun", deployment["rerun"]),
            ("Sequence", deployment["sequence"] or "-"),
            ("From", _moment(deployment["available_from"])),
            ("Until", _moment(deployment["expires_at"])),
        ]
    )
    rows = (
        (run["machine"], run["mac"], moment(run["started_at"]), _moment(run["finished_at"])) for run in reply["runs"]
    )
    print_table(("MACHINE", "MAC", "GIVEN", "IMAGE FETCHED"), rows, empty="No machine has been given it as required.")


@app.command(epilog="Example: dpd deployment remove 3")
def remove(id: IdArgument, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Take a deployment out; boots that it began and that still fetch files end."""
    removed = Client(socket).delete("deployments", str(id))
    if as_json:
        print_json(removed)
    else:
        print(f"deployment {removed['id']}: removed")


@app.command(epilog="Example: dpd deployment clear 3 PC-017")
def clear(
    id: IdArgument,
    machine: Annotated[
        str | None, typer.Argument(metavar="[NAME|MAC]", help="One machine; without it, say --all.")
    ] = None,
    all_machines: Annotated[bool, typer.Option("--all", help="Every machine that has run it.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Let a machine that has run a required deployment have it once more."""
    if (machine is None) != all_machines:
        raise typer.BadParameter("expected either a machine or --all")
    body = {} if machine is None else {"machine": machine}
    reply = Client(socket).post("deployments", str(id), "clear", body=body)
    if as_json:
        print_json(reply)
    else:
        count = reply["cleared"]
        print(f"deployment {id}: {count} {'machine' if count == 1 else 'machines'} may run it once more")


def _moment(at: float) -> str:
    return moment(at) if at else "-"
