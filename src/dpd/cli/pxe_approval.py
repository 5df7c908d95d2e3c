# SPDX-License-Identifier: Apache-2.0
"""`dpd pxe pending|approve|deny|rules|maintenance|audit`: unknown machines, and who may boot at all."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table

CodeArgument = Annotated[
    str, typer.Argument(metavar="CODE|MAC", help="The code on the machine's screen, or its network address.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to `dpd pxe`."""
    app.command(epilog="Example: dpd pxe pending")(pending)
    app.command(epilog="Example: dpd pxe approve 7KQ4DM --computer PC-017")(approve)
    app.command(epilog="Example: dpd pxe deny 52:54:00:12:34:56")(deny)
    app.command(epilog="Example: dpd pxe rules --add-network 10.1.0.0/16")(rules)
    app.command(epilog="Example: dpd pxe maintenance --on inventory")(maintenance)
    app.command(epilog="Example: dpd pxe audit --last 20")(audit)


def pending(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """List the unknown machines that wait for approval, and what was said about others."""
    reply = Client(socket).get("pxe", "pending")
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            m["code"],
            m["mac"],
            m["guid"] or "-",
            m["arch"],
            m["relay"] or "-",
            m["circuit"] or "-",
            moment(m["last_seen"]),
        )
        for m in reply["pending"]
    )
    print_table(
        ("CODE", "MAC", "GUID", "ARCHITECTURE", "RELAY", "CIRCUIT", "LAST SEEN"),
        rows,
        empty='No machine waits for approval. Machines do where pxe.unknown_computers = "pending".',
    )
    if reply["verdicts"]:
        print()
        said = (
            (v["mac"], v["verdict"], moment(v["expires_at"]) if v["expires_at"] else "for good", v["actor"], moment(v["decided_at"]))
            for v in reply["verdicts"]
        )  # fmt: skip
        print_table(("MAC", "VERDICT", "UNTIL", "BY", "SINCE"), said, empty="")


def approve(
    machine: CodeArgument,
    computer: Annotated[str, typer.Option(metavar="NAME", help="Know it by this name from now on.")] = "",
    boot_image: Annotated[
        str, typer.Option(metavar="ID", help="With --computer: its boot image, instead of its deployments'.")
    ] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Let a machine that waits boot: once, or with --computer as a known computer."""
    if boot_image and not computer:
        raise typer.BadParameter(
            "--boot-image: expected with --computer, since an unknown computer has no image of its own"
        )
    body = {"computer": computer, "boot_image": boot_image}
    client = Client(socket)
    approved = client.post("pxe", "pending", machine, "approve", body=body)
    if as_json:
        print_json(approved)
        return
    print(f"{approved['mac']}: {f'known as {computer}' if computer else 'may boot once'}")
    if computer and not client.get("computers", computer)["deployments"] and client.get("deployments")["deployments"]:
        print(f"Nothing is deployed to it yet; `dpd deployment add --computer {computer}` deploys.", file=sys.stderr)


def deny(
    machine: CodeArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was said about this MAC.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Answer an unknown machine no more, whether it waits or not."""
    client = Client(socket)
    verdict = client.delete("pxe", "verdicts", machine) if undo else client.post("pxe", "pending", machine, "deny")
    if as_json:
        print_json(verdict)
    elif undo:
        print(f"{verdict['mac']}: no longer {verdict['verdict']}")
    else:
        print(f"{verdict['mac']}: denied; `dpd pxe deny --undo {verdict['mac']}` takes that back")


def rules(
    add_mac_prefix: Annotated[str, typer.Option(metavar="PREFIX", help="Approve MACs that begin so.")] = "",
    add_network: Annotated[str, typer.Option(metavar="NETWORK", help="Approve machines of this network.")] = "",
    add_circuit: Annotated[str, typer.Option(metavar="HEX", help="Approve machines at this circuit (option 82).")] = "",
    remove: Annotated[int | None, typer.Option(metavar="ID", help="Take this rule out.")] = None,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List the rules by which unknown machines need no approval; add one or take one out."""
    wanted = [("mac_prefix", add_mac_prefix), ("network", add_network), ("circuit", add_circuit)]
    added = [{"kind": kind, "value": value} for kind, value in wanted if value]
    if len(added) + (remove is not None) > 1:
        raise typer.BadParameter("expected one of the options at a time")
    client = Client(socket)
    if added:
        _print_rule(client.post("pxe", "rules", body=added[0]), "added", as_json)
    elif remove is not None:
        _print_rule(client.delete("pxe", "rules", str(remove)), "removed", as_json)
    else:
        _print_rules(client.get("pxe", "rules"), as_json)


def _print_rule(rule: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        print_json(rule)
    else:
        print(f"rule {rule['id']}: {rule['kind']} {rule['value']} {done}")


def _print_rules(reply: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    rows = ((rule["id"], rule["kind"], rule["value"], moment(rule["added_at"])) for rule in reply["rules"])
    empty = "There is no rule; `dpd pxe rules --add-network 10.1.0.0/16` adds one."
    print_table(("ID>", "KIND", "VALUE", "ADDED"), rows, empty=empty)


def maintenance(
    on: Annotated[str, typer.Option(metavar="REASON", help="Answer no machine from now on.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Answer machines again.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show whether machines are answered; stop that for a while. Boots under way go on."""
    if on and off:
        raise typer.BadParameter("expected --on REASON or --off")
    client = Client(socket)
    status = client.patch("pxe", "maintenance", body={"reason": on}) if on or off else client.get("pxe", "maintenance")
    if as_json:
        print_json(status)
        return
    reason = status["reason"]
    print_fields([("Maintenance", f"on: {reason}; no machine is answered" if reason else "off; machines are answered")])


def audit(
    last: Annotated[int, typer.Option(metavar="N", help="So many entries.")] = 100,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """List the last changes of computers, deployments, approvals and rules: who made them, and when."""
    reply = Client(socket).get("audit", limit=last)
    if as_json:
        print_json(reply)
        return
    rows = ((moment(e["at"]), e["actor"], e["action"], e["detail"], e["policy_version"]) for e in reply["entries"])
    print_table(("TIME", "BY", "WHAT", "DETAILS", "POLICY>"), rows, empty="Nothing has been changed yet.")
