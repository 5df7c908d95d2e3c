# SPDX-License-Identifier: Apache-2.0
"""Three distribution points and a site server on a real NATS server with a leaf node: whatever is asked, by whichever door, comes
to the same; and what the site says holds at each of its points.

The tests are in the order of a site's life: first each point has a policy of its own, then the site speaks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench.netns import missing
from tests.boot.signing import make_pe
from tests.interop.site_stage import PACKAGE, POINTS, Answer, Stage, make_stage
from tests.nats_server import NATS_SERVER

LOADER = make_pe(filler=b"\xc3" * 5000)
VARIES = {
    *("id", "session_id", "group", "port", "sender_port", "epoch", "key", "code", "mac", "actor", "opened_at"),
    *("created_at", "started_at", "ended_at", "added_at", "decided_at", "first_seen", "last_seen", "next_try_at"),
    *("rate_mbit_s", "eta_s"),
}
BEHIND_LEAF = "b1"

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    absent = missing("curl") + ([] if NATS_SERVER else ["nats-server"])
    if absent:
        pytest.skip("a site on a LAN of namespaces needs " + ", ".join(absent))
    home = tmp_path_factory.mktemp("site")
    with make_stage(home, LOADER) as stage:
        image = home / "lab.img"
        image.write_bytes(bytes(range(256)) * 8192)
        assert stage.by_cli("hq", "content", "add", str(image), "--package", PACKAGE).ok
        yield stage


def plain(reply: Any) -> Any:
    """A reply without what is of its own moment."""
    if isinstance(reply, dict):
        return {name: plain(value) for name, value in reply.items() if name not in VARIES}
    return [plain(each) for each in reply] if isinstance(reply, list) else reply


def http_doors(stage: Stage) -> dict[str, Callable[..., Answer]]:
    """By method, path and body."""
    return {"API": stage.by_api, "API of the site": stage.by_relay, "bus": stage.by_bus}


def cli_doors(stage: Stage) -> dict[str, Callable[..., Answer]]:
    """By the words of a command."""
    return {"command": stage.by_cli, "command through the site": stage.by_site_cli}


def by_each_door(
    stage: Stage,
    words: Callable[[], tuple[str, ...]],
    request: Callable[[], tuple[Any, ...]],
    undo: Callable[[Any], None],
) -> dict[str, Any]:
    """The same by each door, and taken back each time: the replies, by door."""
    replies: dict[str, Any] = {}
    for doors, what in ((cli_doors(stage), words), (http_doors(stage), request)):
        for name, door in doors.items():
            answer = door(BEHIND_LEAF, *what())
            assert answer.ok, (name, answer.reply)
            replies[name] = plain(answer.reply)
            undo(answer.reply)
    return replies


def assert_identical(replies: dict[str, Any]) -> None:
    assert len(replies) == 5
    first = replies["API"]
    assert {name: reply for name, reply in replies.items() if reply != first} == {}, first


# ---- each point by itself: every door does the same


def test_distributing_is_the_same_by_every_door(stage: Stage) -> None:
    def undo(job: dict[str, Any]) -> None:
        ended = stage.job_done(stage.by_api, BEHIND_LEAF, job["id"])
        assert (ended["state"], ended["message"]) == ("done", "version 1 has come")
        held = [door(BEHIND_LEAF, "GET", "content").reply for door in http_doors(stage).values()]
        held += [door(BEHIND_LEAF, "content", "list").reply for door in cli_doors(stage).values()]
        packages = [[each["package_id"] for each in reply["content"]] for reply in held]
        assert packages == [[PACKAGE]] * 5
        assert stage.by_api(BEHIND_LEAF, "DELETE", f"content/{PACKAGE}").ok

    volatile = {"state", "done_bytes", "total_bytes", "source_version", "message", "attempts"}
    replies = by_each_door(
        stage,
        lambda: ("content", "distribute", PACKAGE, "--no-wait"),
        lambda: ("POST", "jobs", {"kind": "distribute", "package_id": PACKAGE}),
        undo,
    )
    assert_identical({name: {k: v for k, v in reply.items() if k not in volatile} for name, reply in replies.items()})


def test_starting_a_session_is_the_same_by_every_door(stage: Stage) -> None:
    job = stage.by_api(BEHIND_LEAF, "POST", "jobs", {"kind": "distribute", "package_id": PACKAGE}).reply
    assert stage.job_done(stage.by_api, BEHIND_LEAF, job["id"])["state"] == "done"
    replies = by_each_door(
        stage,
        lambda: ("session", "start", PACKAGE, "--minimum-clients", "3"),
        lambda: ("POST", "sessions", {"package_id": PACKAGE, "minimum_clients": 3}),
        lambda session: _ok(stage.by_api(BEHIND_LEAF, "DELETE", f"sessions/{session['session_id']}")),
    )
    assert_identical(replies)


def test_approving_is_the_same_by_every_door(stage: Stage) -> None:
    macs: list[str] = []

    def waiting() -> str:
        macs.append(stage.fresh_mac())
        stage.boot(BEHIND_LEAF, macs[-1])
        assert stage.decision(BEHIND_LEAF, macs[-1])["outcome"] == "wait"
        return str(stage.decision(BEHIND_LEAF, macs[-1])["code"])

    def boots(_: Any) -> None:
        stage.boot(BEHIND_LEAF, macs[-1])
        assert stage.decision(BEHIND_LEAF, macs[-1])["outcome"] == "boot"

    replies = by_each_door(
        stage,
        lambda: ("pxe", "approve", waiting()),
        lambda: ("POST", f"pxe/pending/{waiting()}/approve", {}),
        boots,
    )
    assert_identical(replies)


def test_deploying_is_the_same_by_every_door(stage: Stage) -> None:
    replies = by_each_door(
        stage,
        lambda: ("deployment", "add", "--unknown", "--priority", "3"),
        lambda: ("POST", "deployments", {"target": "unknown", "priority": 3}),
        lambda added: _ok(stage.by_api(BEHIND_LEAF, "DELETE", f"deployments/{added['deployment']['id']}")),
    )
    assert_identical(replies)


def test_changing_policy_is_the_same_by_every_door(stage: Stage) -> None:
    replies = by_each_door(
        stage,
        lambda: ("pxe", "maintenance", "--on", "works"),
        lambda: ("PATCH", "pxe/maintenance", {"reason": "works"}),
        lambda _: _ok(stage.by_api(BEHIND_LEAF, "PATCH", "pxe/maintenance", {"reason": ""})),
    )
    assert_identical(replies)


def test_a_refusal_is_the_same_by_every_door(stage: Stage) -> None:
    path, words = "sessions/abcdef", ("session", "show", "abcdef")
    told = {name: door(BEHIND_LEAF, "GET", path).reply["error"]["message"] for name, door in http_doors(stage).items()}
    told |= {name: door(BEHIND_LEAF, *words).reply.removeprefix("dpd: ") for name, door in cli_doors(stage).items()}
    assert_identical(told)


def _ok(answer: Answer) -> None:
    assert answer.ok, answer.reply


# ---- the site speaks


def test_a_change_at_the_site_holds_at_each_point(stage: Stage) -> None:
    _ok(stage.site_cli("--site", "computer", "add", "PC-1", "--mac", "52:54:00:92:00:01"))
    _ok(stage.site_cli("point", "add", "b1", "--group", "branches"))
    _ok(stage.at_site("POST", "points", {"name": "b2", "groups": ["branches"]}))
    _ok(stage.site_cli("--site", "deployment", "add", "--computer", "PC-1", "--name", "first"))
    _ok(stage.at_site("POST", "deployments", {"target": "PC-1", "name": "second", "priority": 5}))
    stage.wait_until_points_follow()
    wanted = plain(stage.at_site("GET", "deployments").reply)
    assert [each["deployment"]["name"] for each in wanted["deployments"]] == ["first", "second"]
    for point in POINTS:
        assert plain(stage.by_api(point, "GET", "deployments").reply) == wanted
    for door in http_doors(stage).values():
        refusal = door(BEHIND_LEAF, "POST", "deployments", {"target": "PC-1"}).reply["error"]
        assert refusal["code"] == "site_conflict"
        assert "comes from site lab" in refusal["message"]


def test_a_machine_that_ran_its_required_deployment_at_one_point_does_not_run_it_at_another(stage: Stage) -> None:
    mac = stage.fresh_mac()
    for point in POINTS:
        _ok(stage.by_cli(point, "boot-image", "add", "--efi", str(stage.loader), "--id", "LAB1"))
    _ok(stage.at_site("POST", "computers", {"name": "PC-RUN", "macs": [mac]}))
    body = {"target": "PC-RUN", "purpose": "required", "boot_image": "LAB1", "priority": 9}
    added = stage.at_site("POST", "deployments", body)
    _ok(added)
    number = added.reply["deployment"]["id"]
    stage.wait_until_points_follow()
    stage.boot("b1", mac)
    assert (stage.decision("b1", mac)["cause"], stage.decision("b1", mac)["outcome"]) == ("required", "boot")

    def finished(ask: Callable[..., Answer], *where: str) -> list[Any]:
        return [run for run in ask(*where, "GET", f"deployments/{number}").reply["runs"] if run["finished_at"]]

    for where in ("hq", "b2"):
        stage.until("the run is known", partial(finished, stage.by_api, where))
        stage.boot(where, mac)
        assert stage.decision(where, mac)["cause"] != "required"
    stage.until("the run is known", partial(finished, stage.at_site))
    _ok(stage.site_cli("--site", "deployment", "clear", str(number), "--all"))
    stage.until("the run is cleared", lambda: not finished(stage.by_api, "b2"))
    stage.boot("b2", mac)
    assert stage.decision("b2", mac)["cause"] == "required"


def test_an_approval_at_the_site_with_a_name_makes_a_computer_of_the_site(stage: Stage) -> None:
    mac = stage.fresh_mac()
    stage.boot("b2", mac)
    code = stage.decision("b2", mac)["code"]
    answer = stage.site_cli("--dp", "b2", "pxe", "approve", code, "--computer", "PC-NEW")
    _ok(answer)
    assert answer.reply["mac"] == mac
    _ok(stage.at_site("GET", "computers/PC-NEW"))
    stage.wait_until_points_follow()
    for point in POINTS:
        stage.boot(point, mac)
        assert stage.decision(point, mac)["computer"] == "PC-NEW"
    again = stage.site_cli("--dp", "b2", "pxe", "approve", code, "--computer", "PC-NEWER")
    assert not again.ok
    assert "waits for approval" in again.reply


def test_what_the_site_assigns_to_a_group_is_fetched_by_its_points_and_let_go_again(stage: Stage) -> None:
    def held(point: str) -> list[str]:
        return [each["package_id"] for each in stage.by_api(point, "GET", "content").reply["content"]]

    stage.by_api("b1", "DELETE", f"content/{PACKAGE}")
    _ok(stage.site_cli("site", "content", "add", PACKAGE, "--group", "branches"))
    stage.until("the package is there", lambda: held("b1") == held("b2") == [PACKAGE])
    _ok(stage.site_cli("site", "content", "remove", PACKAGE, "--group", "branches"))
    stage.until("the package is gone", lambda: held("b1") == held("b2") == [])
    assert held("hq") == [PACKAGE]


def test_a_group_gives_one_answer_for_each_point_also_for_those_that_are_away(stage: Stage) -> None:
    stage.points["b2"].kill()
    try:
        replies = {each["point"]: each for each in stage.at_site("GET", "groups/branches/status").reply["points"]}
        assert replies["b1"]["reply"]["state"] == "ready"
        assert replies["b2"]["status"] == 503
        assert "b2" in replies["b2"]["error"]["message"]
        by_words = stage.site_cli("--group", "branches", "session", "list")
        assert not by_words.ok
        assert [(each["point"], each["ok"]) for each in by_words.reply["points"]] == [("b1", True), ("b2", False)]
    finally:
        stage.points["b2"].restart()
    stage.until("b2 is back", lambda: stage.by_relay("b2", "GET", "status").ok)
    everywhere = stage.site_cli("--group", "all", "session", "list")
    _ok(everywhere)
    assert [each["point"] for each in everywhere.reply["points"]] == sorted(POINTS)


def test_each_status_message_of_each_point_is_in_the_archive_once(stage: Stage) -> None:
    """Also over a kill of the site server, while points go on."""
    stop = threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set() or count < 20:
            stage.boot("b1", f"52:54:00:93:00:{count % 250:02x}")
            count += 1
        return count

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work)
        try:
            stage.site.kill_and_restart()
        finally:
            stop.set()
        working.result()

    def all_there() -> bool:
        archived = _all_messages(stage.at_site)
        for point in POINTS:
            own = [_name(each) for each in _all_messages(partial(stage.by_api, point))]
            told = [_name(each) for each in archived if each["fields"].get("point") == point and _is_of(each, point)]
            if sorted(own) != sorted(told):
                return False
        return True

    stage.until("every message is archived once", all_there)


def _all_messages(ask: Callable[..., Answer]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    position = "0"
    while True:
        reply = ask("GET", f"messages?after={position}&limit=1000").reply
        if not reply["messages"]:
            return found
        found += reply["messages"]
        position = reply["position"]


def _is_of(message: dict[str, Any], point: str) -> bool:
    """Not the site server's own word about a point."""
    return message["event"] not in ("point.present", "point.away")


def _name(message: dict[str, Any]) -> tuple[float, str, str]:
    """A message, by what it says."""
    fields = {name: value for name, value in message["fields"].items() if name != "point"}
    return message["at"], message["event"], repr(sorted(fields.items()))


def test_points_boot_machines_while_site_server_and_hub_are_away(stage: Stage, tmp_path: Path) -> None:
    stage.hub.stop()
    try:
        mac = stage.fresh_mac()
        stage.boot("b1", mac)
        assert stage.decision("b1", mac)["outcome"] == "wait"
        assert [each["deployment"]["name"] for each in stage.by_api("b1", "GET", "deployments").reply["deployments"]][
            :2
        ] == ["first", "second"]
        refused = stage.by_relay("b1", "GET", "status")
        assert (refused.ok, refused.reply["error"]["code"]) == (False, "unavailable")
        _ok(stage.at_site("POST", "computers", {"name": "PC-AWAY", "macs": [mac]}))
    finally:
        stage.hub.start()
    stage.wait_until_points_follow()
    stage.boot("b1", mac)
    assert stage.decision("b1", mac)["computer"] == "PC-AWAY"
