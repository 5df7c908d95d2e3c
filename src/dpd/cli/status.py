# SPDX-License-Identifier: Apache-2.0
"""`dpd status`."""

from __future__ import annotations

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, SocketOption
from dpd.cli.screen import moment, print_fields, print_json, print_table, size
from dpd.cli.session import print_sessions
from dpd.cli.site_serve import print_site


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: dpd status --json")(status)


def status(socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """Show what the daemon serves and what runs; of a site server, whom it steers."""
    reply = Client(socket).get("status")
    if as_json:
        print_json(reply)
        return
    if reply.get("role") == "site":
        print_site(reply)
        return
    print_fields(
        [
            ("dpd", f"{reply['version']}, {reply['state']}, pid {reply['pid']}, since {moment(reply['started_at'])}"),
            ("Settings", reply["settings_path"] or "defaults"),
            ("Content", f"{reply['contents']} ({size(reply['content_bytes'])})"),
            ("Public key", reply["public_key"]),
            ("Boot files", reply["boot_files"]),
            ("Machines seen", reply["machines"]),
            ("Running jobs", reply["jobs"]),
        ]
    )
    print()
    rows = (
        (service["name"], ", ".join(map(str, service["ports"].values())) or "-", _counts(service["counted"]))
        for service in reply["services"]
    )
    print_table(("SERVICE", "PORTS", "COUNTED"), rows, empty="Every service is off in the settings.")
    print()
    print_sessions(reply["sessions"])


def _counts(counted: dict[str, object]) -> str:
    """What is not zero; a count by label as its sum."""
    sums = {name: sum(value.values()) if isinstance(value, dict) else value for name, value in counted.items()}
    return " ".join(f"{name}={value}" for name, value in sums.items() if value) or "-"
