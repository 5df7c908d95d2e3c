# SPDX-License-Identifier: Apache-2.0
"""Whom a command asks: the daemon of this host, the site server, one distribution point through it, or each of a group.

A group's points are asked by one child process each, a few at a time: every command then works for a group as for one point,
and one point that is slow or away holds nobody else up.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import typer

from dpd.cli.client import AIM, Aim, Client, RefusedByDaemon
from dpd.cli.screen import print_json
from dpd.errors import DpdError

AT_ONCE = 16
LOCAL_COMMANDS = frozenset({"serve", "check-config", "receive", "mc-test", "demo"})  # they ask nobody
ENDLESS = frozenset({"--follow", "-f"})  # of `dpd events`


class AimRefused(DpdError):
    """This command cannot be asked of those that the options name."""


class GroupAsked(Exception):
    """Not a failure: this run is to be done once for each point of a group."""

    def __init__(self, group: str, site_socket: str) -> None:
        self.group, self.site_socket = group, site_socket


@dataclass(slots=True)
class _Child:
    """One point's run."""

    point: str
    pid: int
    out: IO[bytes]
    err: IO[bytes]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one point's run printed, and its exit code."""

    point: str
    code: int
    out: str
    err: str


_OF_POINTS = "this is with each distribution point, not with the site server; `dpd --dp NAME …` asks one of them, `dpd --group all …` every one"


def aim(command: str, dp: str, group: str, *, site: bool, site_socket: str) -> None:
    """Set whom the clients of this run ask. Raises AimRefused, GroupAsked."""
    if AIM.get() is not None:  # the run of one point of a group
        return
    given = [option for option, value in (("--dp", dp), ("--group", group), ("--site", site)) if value]
    if len(given) > 1:
        raise AimRefused(f"{' and '.join(given)}: expected at most one of them")
    if given and command in LOCAL_COMMANDS:
        raise AimRefused(f"{given[0]}: `dpd {command}` runs on this host alone; leave {given[0]} out")
    if group:
        raise GroupAsked(group, site_socket)
    if given:
        AIM.set(Aim(site_socket, dp))


def explain(error: DpdError) -> DpdError:
    """A refusal in words for whoever asked the site server what its points alone can tell."""
    aim = AIM.get()
    is_of_points = isinstance(error, RefusedByDaemon) and error.code == "http_404" and aim is not None and not aim.point
    return AimRefused(_OF_POINTS) if is_of_points else error


def ask_group(asked: GroupAsked, arguments: Sequence[str], run: Callable[[], int]) -> int:
    """Do the run once for each point of the group and show the answers, by point; the exit code."""
    if "events" in arguments and ENDLESS & set(arguments):
        raise AimRefused(
            "--follow: no end, so no group's answers can be shown; `dpd --site events --follow` has all points'"
        )
    if {"deploy", "watch"} <= set(arguments):
        raise AimRefused(
            "deploy watch: no end, so no group's answers can be shown; `dpd --site deploy watch` has all points'"
        )
    answers = list(_answers(_members(asked), asked.site_socket, run))
    if "--json" in arguments:
        print_json({"points": [_as_json(each) for each in answers]})
    else:
        _print_by_point(answers)
    return max(each.code for each in answers)


def _members(asked: GroupAsked) -> list[str]:
    token = AIM.set(Aim(asked.site_socket))
    try:
        reply = Client("").get("points", group=asked.group)
    finally:
        AIM.reset(token)
    names = [point["name"] for point in reply["points"]]
    if not names:
        raise AimRefused(
            f"group {asked.group}: no distribution point is in it; `dpd point list` shows points and groups"
        )
    return names


def _answers(points: Sequence[str], site_socket: str, run: Callable[[], int]) -> Iterator[_Answer]:
    """In the order of the points."""
    waiting = deque(points)
    children: deque[_Child] = deque()
    while waiting or children:
        while waiting and len(children) < AT_ONCE:
            children.append(_start(waiting.popleft(), site_socket, run))
        yield _finish(children.popleft())


def _start(point: str, site_socket: str, run: Callable[[], int]) -> _Child:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed when they have been read
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_child(Aim(site_socket, point), out, err, run)
    return _Child(point, pid, out, err)


def _be_child(aim: Aim, out: IO[bytes], err: IO[bytes], run: Callable[[], int]) -> None:
    """Never returns: what the parent's callers have open is theirs to close."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(out.fileno(), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(err.fileno(), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        AIM.set(aim)
        code = run()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _finish(child: _Child) -> _Answer:
    _, status = os.waitpid(child.pid, 0)
    with child.out, child.err:
        texts = []
        for file in (child.out, child.err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return _Answer(child.point, abs(os.waitstatus_to_exitcode(status)), *texts)


def _as_json(answer: _Answer) -> dict[str, Any]:
    if answer.code:
        return {"point": answer.point, "ok": False, "error": answer.err.strip().removeprefix("dpd: ")}
    lines = [json.loads(line) for line in answer.out.splitlines()]
    return {"point": answer.point, "ok": True, "reply": lines[0] if len(lines) == 1 else lines}


def _print_by_point(answers: Sequence[_Answer]) -> None:
    for number, answer in enumerate(answers):
        print(("\n" if number else "") + f"{answer.point}:")
        print(answer.out, end="", flush=True)
        for line in answer.err.splitlines():
            print(f"{answer.point}: {line}", file=sys.stderr, flush=True)


def ask_site(socket: str) -> Client:
    """A client of the site server, for commands that are its alone: `--site` may be left out with them, and --dp is refused."""
    aim = AIM.get()
    if aim is not None and aim.point:
        raise AimRefused(f"--dp {aim.point}: this command asks the site server; leave --dp out")
    token = AIM.set(aim or Aim(socket))
    try:
        return Client("")
    finally:
        AIM.reset(token)


def site_option() -> Any:
    """Where the site server's socket is."""
    return typer.Option(
        "--site-socket", envvar="DPD_SITE_SOCKET", metavar="PATH", help="The site server's control socket."
    )
