# SPDX-License-Identifier: Apache-2.0
"""`dpd content distribute|update|redistribute|validate|status`: jobs of one package, followed to their end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dpd.cli.client import Client
from dpd.cli.options import DEFAULT_SOCKET, JsonOption, PackageArgument, SocketOption, VersionOption
from dpd.cli.screen import moment, print_json, print_table, progress_bar
from dpd.errors import DpdError

LOOK_INTERVAL_S = 0.3
PRIORITIES = {"high": 1, "normal": 2, "low": 3}
PAGE = 1000


def read_priority(text: str) -> int:
    """high, normal or low."""
    if text.lower() not in PRIORITIES:
        raise typer.BadParameter(f"{text[:20]!r}: expected high, normal or low")
    return PRIORITIES[text.lower()]


PriorityOption = Annotated[
    int, typer.Option(parser=read_priority, metavar="high|normal|low", help="Whose turn is first; then the older job.")
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job's end.")]
NORMAL: Any = "normal"  # which the parser makes a number


class JobEnded(DpdError):
    """A job that was followed has failed, or was cancelled."""


def register(app: typer.Typer) -> None:
    """Add the commands to those of content."""
    app.command(epilog="Example: dpd content distribute LAB00001 --priority high")(distribute)
    app.command(epilog="Example: dpd content update LAB00001")(update)
    app.command(epilog="Example: dpd content redistribute LAB00001")(redistribute)
    app.command(epilog="Example: dpd content validate LAB00001")(validate)
    app.command(epilog="Example: dpd content status")(status)


def distribute(
    package: PackageArgument,
    source_version: VersionOption = None,
    priority: PriorityOption = NORMAL,
    url: Annotated[str, typer.Option(help="Fetch this file instead of asking the sources; needs --sha256.")] = "",
    sha256: Annotated[str, typer.Option(metavar="HEX", help="The SHA-256 of the file at --url.")] = "",
    ca_file: Annotated[str, typer.Option(metavar="PEM", help="The authority of --url's server.")] = "",
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Fetch a package from the sources, unless it is here. Other versions stay."""
    place = {"url": url, "sha256": sha256, "ca_file": ca_file}
    order(Client(socket), "distribute", package, source_version, priority, no_wait, as_json, place)


def update(
    package: PackageArgument,
    source_version: VersionOption = None,
    priority: PriorityOption = NORMAL,
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Fetch what has changed since the version that is here; older versions go (library.keep_versions)."""
    order(Client(socket), "update", package, source_version, priority, no_wait, as_json)


def redistribute(
    package: PackageArgument,
    source_version: VersionOption = None,
    priority: PriorityOption = NORMAL,
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Compare every byte of a package, and fetch again what is missing or damaged."""
    order(Client(socket), "redistribute", package, source_version, priority, no_wait, as_json)


def validate(
    package: Annotated[
        str | None, typer.Argument(metavar="[PACKAGE]", help="Package ID; without it, the whole library.")
    ] = None,
    source_version: VersionOption = None,
    priority: PriorityOption = NORMAL,
    no_wait: NoWaitOption = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Read what is stored and compare it, at idle priority; damage is repaired from a source (library.repair)."""
    order(Client(socket), "validate", package, source_version, priority, no_wait, as_json)


def order(
    client: Client,
    kind: str,
    package: str | None,
    version: int | None,
    priority: int,
    no_wait: bool,
    as_json: bool,
    more: Mapping[str, str] | None = None,
) -> None:
    """Order a job of a package, and follow it."""
    given = {"kind": kind, "package_id": package, "source_version": version, "priority": priority, **(more or {})}
    job = client.post("jobs", body={name: value for name, value in given.items() if value not in (None, "")})
    follow(client, job, no_wait=no_wait, as_json=as_json)


def follow(client: Client, job: dict[str, Any], *, no_wait: bool = False, as_json: bool = False) -> None:
    """Show how far a job is until it ends, and how it ended. Raises JobEnded where that is not well."""
    if no_wait:
        print_json(job) if as_json else print(in_words(job))
        return
    try:
        job = _watched(client, job, quiet=as_json)
    except KeyboardInterrupt:
        print(f"job {job['id']} goes on; `dpd job show {job['id']}` tells how far it is", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print_json(job)
    if job["state"] != "done":
        again = f"; `dpd job retry {job['id']}` tries again"
        raise JobEnded(f"{name_of(job)} {job['state']}: {job['error'] or job['message']}{again}")
    if not as_json:
        print(in_words(job))


def _watched(client: Client, job: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    said = ""
    with progress_bar(quiet=quiet) as bar:
        while job["state"] not in ("done", "failed", "cancelled"):
            if job["total_bytes"]:
                bar(job["kind"], job["done_bytes"], job["total_bytes"])
            if job["state"] == "waiting" and not quiet and said != (said := in_words(job)):
                print(said, file=sys.stderr)
            time.sleep(LOOK_INTERVAL_S)
            job = client.get("jobs", str(job["id"]))
    return job


def name_of(job: dict[str, Any]) -> str:
    """Which job, in words."""
    version = "" if job["source_version"] is None else f" version {job['source_version']}"
    return f"job {job['id']}: {job['kind']} {job['package_id']}{version}".rstrip()


def in_words(job: dict[str, Any]) -> str:
    """A job in one line."""
    why = reason_of(job)
    return f"{name_of(job)} {job['state']}{f': {why}' if why else ''}"


def reason_of(job: dict[str, Any]) -> str:
    """What it does, waits for, or failed of, and when it is tried again."""
    why = why_of(job)
    return f"{why}; next try {moment(job['next_try_at'])}" if job["next_try_at"] else why


def why_of(job: dict[str, Any]) -> str:
    """The same without the moment, which moves with the clock."""
    if job["state"] in ("waiting", "failed") and job["error"]:
        return str(job["error"])
    return str(job["stopping"] or job["message"])


def progress_of(job: dict[str, Any] | None) -> str:
    """How much is here, in percent; "" where nobody knows."""
    if not job or not job["total_bytes"]:
        return ""
    return f"{100 * job['done_bytes'] // job['total_bytes']} %"


def status(
    package: Annotated[
        str | None, typer.Argument(metavar="[PACKAGE]", help="Package ID; without it, every package.")
    ] = None,
    state: Annotated[str, typer.Option(help="Only packages in this state, such as failed.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Show the state of packages: installed, pending, retrying, failed, removal-pending, removal-retrying,
    removal-failed, updating or monitoring."""
    client = Client(socket)
    packages = [client.get("packages", package)] if package else _all_packages(client)
    packages = [each for each in packages if state in ("", each["state"])]
    if as_json:
        print_json({"packages": packages})
        return
    rows = (
        (
            each["package_id"],
            each["state"],
            " ".join(map(str, each["versions"])),
            each["job"]["id"] if each["job"] else "",
            progress_of(each["job"]),
            each["why"] if not each["job"] else reason_of(each["job"]),
        )
        for each in packages
    )
    print_table(
        ("PACKAGE", "STATE", "VERSIONS", "JOB>", "DONE>", "WHY"),
        rows,
        empty="No package is here or on its way; `dpd content distribute PACKAGE` fetches one.",
    )


def _all_packages(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["package_id"] if found else None
        page = client.get("packages", after=after, limit=PAGE)["packages"]
        found += page
        if len(page) < PAGE:
            return found
