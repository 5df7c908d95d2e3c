# SPDX-License-Identifier: Apache-2.0
"""`dpd site serve` and `dpd site content …`: the site server, and what its points are to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli.aiming import AimRefused, ask_site
from dpd.cli.client import SITE_SOCKET
from dpd.cli.options import JsonOption, PackageArgument, VersionOption
from dpd.cli.screen import moment, print_fields, print_json, print_table

DEFAULT_PATH = Path("/etc/dpd/dpd-site.toml")

SiteSocketOption = Annotated[
    str, typer.Option("--socket", envvar="DPD_SITE_SOCKET", metavar="PATH", help="The site server's control socket.")
]
DpOption = Annotated[str, typer.Option("--dp", metavar="NAME", help="This distribution point.")]
GroupOption = Annotated[
    str, typer.Option("--group", metavar="NAME", help='Each distribution point of this group; "all" is every one.')
]

content = typer.Typer(
    help="Content that points and groups are to hold: add, remove, list.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve", epilog="Example: dpd site serve --config /etc/dpd/dpd-site.toml")(serve)
    app.command("status", epilog="Example: dpd site status --json")(status)
    app.add_typer(content, name="content")


def serve(
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="Settings file, of the same form as a distribution point's.")
    ] = DEFAULT_PATH,
) -> None:
    """Run the site server until SIGTERM; SIGHUP reloads settings. It steers distribution points over the bus."""
    from dpd.settings import load_settings
    from dpd.site_server.server import main

    raise typer.Exit(main(load_settings(config.absolute()), config.absolute()))


def status(socket: SiteSocketOption = SITE_SOCKET, as_json: JsonOption = False) -> None:
    """Show how the site server is: whether it steers the site, and who else does; the bus, the policy, the points."""
    reply = ask_site(socket).get("status")
    if as_json:
        print_json(reply)
    else:
        print_site(reply)


@content.command(epilog="Example: dpd site content add LAB00001 --group branches")
def add(
    package: PackageArgument,
    dp: DpOption = "",
    group: GroupOption = "",
    source_version: VersionOption = None,
    priority: Annotated[int, typer.Option(min=1, max=3, help="1 goes first.")] = 2,
    socket: SiteSocketOption = SITE_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Have a point, or each point of a group, hold a package from now on. It is fetched from the points' own sources."""
    body = {
        "target": _target(dp, group),
        "package_id": package,
        "source_version": source_version,
        "priority": priority,
    }
    reply = ask_site(socket).post("assignments", body=body)
    if as_json:
        print_json(reply)
    else:
        print(f"{package}: to be at {_words(reply['target'])}; `dpd --dp NAME content list` shows how far it is there")


@content.command(epilog="Example: dpd site content remove LAB00001 --group branches")
def remove(
    package: PackageArgument,
    dp: DpOption = "",
    group: GroupOption = "",
    socket: SiteSocketOption = SITE_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Have a point, or each point of a group, let go of a package that the site had it hold."""
    reply = ask_site(socket).delete("assignments", _target(dp, group), package)
    if as_json:
        print_json(reply)
    else:
        print(f"{package}: no longer to be at {_words(reply['target'])}")


@content.command("list", epilog="Example: dpd site content list --json")
def list_content(socket: SiteSocketOption = SITE_SOCKET, as_json: JsonOption = False) -> None:
    """List which content is to be where."""
    reply = ask_site(socket).get("assignments")
    if as_json:
        print_json(reply)
        return
    rows = (
        (
            _words(a["target"]),
            a["package_id"],
            a["source_version"] or "newest",
            a["priority"],
            moment(a["added_at"]),
            a["actor"],
        )
        for a in reply["assignments"]
    )
    print_table(
        ("FOR", "PACKAGE", "VERSION>", "PRIORITY>", "SINCE", "BY"),
        rows,
        empty="The site has no point hold anything; `dpd site content add PACKAGE --group all` does.",
    )


def print_site(reply: dict[str, Any]) -> None:
    """The status of a site server."""
    bus = reply["bus"]
    reached = f"connected to {bus['server']}" if bus["connected"] else f"not connected: {bus['trouble']}"
    out = "" if reply["policy_is_out"] else ", and changes that points have not been told yet"
    points = ", ".join(f"{count} {state}" for state, count in reply["points"].items() if count) or "none"
    print_fields(
        [
            ("dpd", f"{reply['version']}, {reply['state']}, pid {reply['pid']}, since {moment(reply['started_at'])}"),
            ("Site", reply["site"]),
            ("Steers it", _steers(reply["lease"])),
            ("Settings", reply["settings_path"]),
            ("Bus", reached),
            ("Policy", f"version {reply['policy_version']}{out}, {reply['points_behind']} points behind"),
            ("Computers", reply["computers"]),
            ("Collections", reply["collections"]),
            ("Deployments", reply["deployments"]),
            ("Task sequences", reply["sequences"]),
            ("Points", points),
            ("Messages", reply["messages"]),
        ]
    )


def _steers(lease: dict[str, Any]) -> str:
    holder = f"the site server on {lease['host']} (pid {lease['pid']})"
    if lease["trouble"]:
        return f"no, and nobody does: {lease['trouble']}"
    if lease["state"] == "held":
        return f"yes, since {moment(lease['since'])}"
    if lease["state"] == "waiting":
        return (
            f"no: {holder} does, since {moment(lease['since'])}; this one waits, and takes over when that one is gone"
        )
    return "not known without the bus" + (f"; last known: {holder}" if lease["host"] else "")


def _target(dp: str, group: str) -> str:
    if bool(dp) == bool(group):
        raise AimRefused("--dp, --group: expected one of them, such as --dp branch-1 or --group all")
    return f"dp:{dp}" if dp else f"group:{group}"


def _words(target: str) -> str:
    kind, _, name = target.partition(":")
    return f"point {name}" if kind == "dp" else f"group {name}"
