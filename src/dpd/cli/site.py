# SPDX-License-Identifier: Apache-2.0
"""`dpd site …`: a site as one file under version control, and the server of a site of many distribution points."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dpd.cli import document, site_serve
from dpd.cli.aiming import ask_site
from dpd.cli.client import AIM, SITE_SOCKET, Client, RefusedByDaemon
from dpd.cli.options import DEFAULT_SOCKET, JsonOption
from dpd.cli.screen import print_json
from dpd.cli.site_diff import print_plan, problem_lines, risk_lines, summary
from dpd.errors import DpdError

app = typer.Typer(help="The site as a whole: plan, apply, export, serve.", no_args_is_help=True, rich_markup_mode=None)
site_serve.register(app)

SHOWN_PROBLEMS = 100
TRIES = 3  # approvals and settings are changes of policy too, and come at any time
TOML = "application/toml"

FileOption = Annotated[str, typer.Option("-f", "--file", metavar="FILE", help="The declaration; - is standard input.")]
SocketOption = Annotated[
    str,
    typer.Option(
        "--socket",
        envvar="DPD_SOCKET",
        metavar="PATH",
        help="A control socket; without it the site server's of this host, and where there is none its daemon's.",
    ),
]


class DeclarationRefused(DpdError):
    """A declaration that cannot be read, has problems, or was not confirmed; nothing was done."""


@app.command(epilog="Example: dpd site plan -f site.toml")
def plan(
    file: FileOption,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit with 2 where something would change, 0 where nothing would."),
    ] = False,
    socket: SocketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what a declaration would change. Nothing is done."""
    report = _plan(_client(socket), _read(file))
    if as_json:
        print_json(report)
    _refuse_problems(report, file)
    if not as_json:
        _print_report(report, file)
    if detailed_exitcode and report["changes"]:
        raise typer.Exit(2)


@app.command(epilog="Example: dpd site apply -f site.toml")
def apply(
    file: FileOption,
    yes: Annotated[bool, typer.Option("--yes", help="Apply the plan without asking.")] = False,
    confirm: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many known computers the plan's high risks reach, where it has some."),
    ] = None,
    socket: SocketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the site what a declaration says: all of it, or nothing."""
    client, text = _client(socket), _read(file)
    report = _plan(client, text)
    if as_json and report["problems"]:
        print_json(report)
    _refuse_problems(report, file)
    if not as_json:
        _print_report(report, file)
    if report["changes"] and not yes:
        confirm = _ask(report, confirm, from_input=file == "-" or as_json)
    if report["changes"] or as_json:
        report = _applied(client, text, report, confirm)
    if as_json:
        print_json(report)
    elif report["changes"]:
        print(f"Applied: policy is version {report['policy_version']} now.")


@app.command(epilog="Example: dpd site export -f site.toml")
def export(
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="Where to write it; - is standard output.")
    ] = "-",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Of these alone: computer, collection, deployment, boundary, point, rule."),
    ] = None,
    socket: SocketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the site down as a declaration. Applied anywhere, it makes that site the same."""
    reply = _client(socket).get("site", "export", kinds=",".join(only) if only else None)
    if file != "-":
        _write(Path(file), reply["declaration"])
    if as_json:
        print_json(reply)
    elif file == "-":
        print(reply["declaration"], end="")
    else:
        print(f"{file}: written, of policy version {reply['policy_version']}")


def _client(socket: str) -> Client:
    """Of whom `--site`, `--dp` or `--socket` name; else of the site server of this host, where there is one."""
    if AIM.get() is not None or socket:
        return Client(socket)
    site_socket = os.environ.get("DPD_SITE_SOCKET", SITE_SOCKET)
    return ask_site(site_socket) if Path(site_socket).exists() else Client(DEFAULT_SOCKET)


def _read(file: str) -> bytes:
    try:
        return document.read(file)
    except OSError as error:
        raise DeclarationRefused(
            f"{file}: {error.strerror}; expected a declaration, such as `dpd site export` writes"
        ) from None


def _write(path: Path, text: str) -> None:
    try:
        document.write(path, text)
    except OSError as error:
        raise DeclarationRefused(f"{path}: not written: {error.strerror}; name another file with -f") from None


def _plan(client: Client, text: bytes) -> dict[str, Any]:
    report: dict[str, Any] = client.post_text("site", "plan", text=text, content_type=TOML)
    return report


def _refuse_problems(report: dict[str, Any], file: str) -> None:
    """Raises DeclarationRefused where there are any."""
    if count := len(report["problems"]):
        for line in problem_lines(file, report)[:SHOWN_PROBLEMS]:
            print(line, file=sys.stderr)
        shown = f", the first {SHOWN_PROBLEMS} are shown" if count > SHOWN_PROBLEMS else ""
        raise DeclarationRefused(
            f"{file}: {count} {'problem' if count == 1 else 'problems'}{shown}; nothing was changed"
        )


def _print_report(report: dict[str, Any], file: str) -> None:
    version = f"policy version {report['policy_version']}"
    if not report["changes"]:
        print(f"No changes: the site is what {file} says ({version}).")
        return
    print_plan(report)
    print(f"\nPlan: {summary(report)} ({version}).")
    for line in risk_lines(report):
        print(line)


def _ask(report: dict[str, Any], confirm: int | None, *, from_input: bool) -> int | None:
    """What to confirm, as somebody at the terminal says. Raises DeclarationRefused where nobody is there, or says no."""
    if from_input or not sys.stdin.isatty():
        raise DeclarationRefused(
            "nothing was changed: nobody is here to be asked; `--yes` applies the plan without asking"
        )
    number = report["confirm"] if report["risks"] and confirm is None else None
    answer = _answer("Apply? [y/N] " if number is None else f"Type {number} to apply: ")
    if answer not in (("y", "yes") if number is None else (str(number),)):
        raise DeclarationRefused("nothing was changed: not confirmed")
    return confirm if number is None else int(number)


def _answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        print()
        return ""


def _applied(client: Client, text: bytes, report: dict[str, Any], confirm: int | None) -> dict[str, Any]:
    """As planned. Where policy has changed since, and the plan has not, what was agreed to is still what is done."""
    for _ in range(TRIES - 1):
        try:
            return _apply(client, text, report, confirm)
        except RefusedByDaemon as error:
            if error.code != "site_conflict" or not _is_same(again := _plan(client, text), report):
                raise
            report = again
    return _apply(client, text, report, confirm)


def _apply(client: Client, text: bytes, report: dict[str, Any], confirm: int | None) -> dict[str, Any]:
    query = {"policy_version": report["policy_version"], "confirm": confirm}
    done: dict[str, Any] = client.post_text("site", "apply", text=text, content_type=TOML, **query)
    return done


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two plans differ in nothing but the version they are of."""
    return one | {"policy_version": 0} == other | {"policy_version": 0}
