# SPDX-License-Identifier: Apache-2.0
"""Distribute, deploy, approve, start sessions, change policy: by command, API, bus and page, each leads to the same state, which
the page shows, too. First at a point of its own policy behind a leaf node, then for the whole site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench.netns import missing
from playwright.sync_api import Page, expect, sync_playwright
from tests.boot.signing import make_pe
from tests.interop.page_orders import PageOrders
from tests.interop.page_stage import CHROMIUM, CONSOLE, ORIGIN, PATIENCE_MS, chromium_at, known_by, make_roles, window
from tests.interop.site_stage import PACKAGE, POINTS, Answer, Stage, make_stage

from dpd.control.access.callers import Role

POINT, GROUP = "b1", "branches"
BRANCHES = ("b1", "b2")
OF_THE_MOMENT = {
    *(
        "id",
        "session_id",
        "group",
        "port",
        "sender_port",
        "epoch",
        "key",
        "code",
        "mac",
        "actor",
        "opened_at",
        "actors",
    ),
    *("created_at", "started_at", "ended_at", "added_at", "decided_at", "first_seen", "last_seen", "next_try_at", "at"),
    *("rate_mbit_s", "eta_s", "done_bytes", "total_bytes", "policy_version", "version", "since"),
}


@dataclass(frozen=True)
class Order:
    """One and the same, as a command, as a request, and on the page."""

    words: tuple[str, ...]
    request: tuple[Any, ...]
    on_page: Callable[[PageOrders], None]


@dataclass
class Lab:
    """The site, and two windows: the page of the point `b1`, and that of the site server."""

    stage: Stage
    point: Page
    site: Page

    def look_from_site(self, point: str = "") -> Page:
        """The site server's page, of the site or of one of its points."""
        self.site.goto(f"{ORIGIN}/{f'?point={point}' if point else ''}")
        expect(self.site.locator("#connection-text")).to_have_text("Live")
        return self.site


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    absent = missing("curl", "nats-server", CHROMIUM)
    if absent:
        pytest.skip("the doors of a site on a LAN of namespaces need " + ", ".join(absent))
    expect.set_options(timeout=PATIENCE_MS)
    home = tmp_path_factory.mktemp("doors")
    roles, tokens = make_roles(home)
    problems: list[str] = []
    with ExitStack() as stack:
        stage = stack.enter_context(make_stage(home, make_pe(filler=b"\xc3" * 5000), CONSOLE, known_by(roles)))
        image = home / "lab.img"
        image.write_bytes(bytes(range(256)) * 4096)
        assert_done(stage.by_cli("hq", "content", "add", str(image), "--package", PACKAGE))
        playwright = stack.enter_context(sync_playwright())
        pages = []
        for host in (POINT, "hub"):
            browser = stack.enter_context(chromium_at(stage.lan[host], home / f"chromium-{host}", playwright))
            pages.append(stack.enter_context(window(browser, tokens[Role.ADMIN], problems)))
        yield Lab(stage, *pages)
        assert problems == []


def assert_done(answer: Answer) -> Any:
    assert answer.ok, answer.reply
    return answer.reply


def lasting(reply: Any) -> Any:
    """Without what is of its own moment."""
    if isinstance(reply, dict):
        return {name: lasting(value) for name, value in reply.items() if name not in OF_THE_MOMENT}
    return [lasting(each) for each in reply] if isinstance(reply, list) else reply


def assert_same(outcomes: dict[str, Any], doors: int) -> None:
    """What came of an order is the same by every door."""
    assert len(outcomes) == doors
    wanted = lasting(outcomes["API"])
    assert {name: lasting(found) for name, found in outcomes.items() if lasting(found) != wanted} == {}, wanted


# ---- a point by itself


def by_each_door_of_a_point(
    lab: Lab, order: Callable[[], Order], outcome: Callable[[], Any], undo: Callable[[Any], None]
) -> None:
    stage = lab.stage
    doors: dict[str, Callable[[Order], Any]] = {
        "command": lambda order: assert_done(stage.by_cli(POINT, *order.words)),
        "API": lambda order: assert_done(stage.by_api(POINT, *order.request)),
        "bus": lambda order: assert_done(stage.by_bus(POINT, *order.request)),
        "page": lambda order: order.on_page(PageOrders(lab.point)),
        "page of the site": lambda order: order.on_page(PageOrders(lab.look_from_site(POINT))),
    }
    outcomes = {}
    for name, give in doors.items():
        give(order())
        outcomes[name] = outcome()
        undo(outcomes[name])
    assert_same(outcomes, 5)


def last_change(stage: Stage) -> dict[str, Any]:
    """Who changed what last at the point, as its audit has it."""
    found: dict[str, Any] = stage.by_api(POINT, "GET", "audit?limit=1").reply["entries"][0]
    return found


def test_distributing_is_the_same_by_every_door_of_a_point(lab: Lab) -> None:
    stage = lab.stage
    seen: set[int] = set()

    def order() -> Order:
        seen.update(job["id"] for job in stage.by_api(POINT, "GET", "jobs/ended").reply["jobs"])
        return Order(
            ("content", "distribute", PACKAGE, "--no-wait"),
            ("POST", "jobs", {"kind": "distribute", "package_id": PACKAGE}),
            lambda page: page.distribute(PACKAGE),
        )

    def outcome() -> Any:
        ended = stage.until("the job ends", lambda: [job for job in jobs() if job["id"] not in seen])
        expect(lab.point.locator("#packages li").filter(has_text=PACKAGE)).to_contain_text("Installed")
        expect(lab.point.locator("#jobs li.job").first).to_contain_text(f"Distribute {PACKAGE}")
        found = {path: stage.by_api(POINT, "GET", path).reply for path in ("content", "packages")}
        return found | {"jobs": ended}

    def jobs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = stage.by_api(POINT, "GET", "jobs/ended").reply["jobs"]
        return found

    def undo(outcome: Any) -> None:
        assert [(job["state"], job["message"]) for job in outcome["jobs"]] == [("done", "version 1 has come")]
        assert_done(stage.by_api(POINT, "DELETE", f"content/{PACKAGE}"))

    by_each_door_of_a_point(lab, order, outcome, undo)


def test_starting_a_session_is_the_same_by_every_door_of_a_point(lab: Lab) -> None:
    stage = lab.stage
    job = assert_done(stage.by_api(POINT, "POST", "jobs", {"kind": "distribute", "package_id": PACKAGE}))
    assert stage.job_done(stage.by_api, POINT, job["id"])["state"] == "done"

    def outcome() -> Any:
        row = lab.point.locator("#sessions li.session").filter(has_text=PACKAGE)
        expect(row).to_contain_text("Waiting for 3 of 3 receivers")
        return stage.by_api(POINT, "GET", "sessions").reply["sessions"]

    def undo(sessions: Any) -> None:
        (session,) = sessions
        assert_done(stage.by_api(POINT, "DELETE", f"sessions/{session['session_id']}"))

    def order() -> Order:
        return Order(
            ("session", "start", PACKAGE, "--minimum-clients", "3"),
            ("POST", "sessions", {"package_id": PACKAGE, "minimum_clients": 3}),
            lambda page: page.start_session(PACKAGE, 3),
        )

    by_each_door_of_a_point(lab, order, outcome, undo)


def test_approving_is_the_same_by_every_door_of_a_point(lab: Lab) -> None:
    stage = lab.stage
    macs: list[str] = []

    def order() -> Order:
        macs.append(stage.fresh_mac())
        stage.boot(POINT, macs[-1])
        code = stage.decision(POINT, macs[-1])["code"]
        expect(lab.point.locator("#approvals li.card").filter(has_text=macs[-1])).to_contain_text(code)
        return Order(
            ("pxe", "approve", code),
            ("POST", f"pxe/pending/{code}/approve", {}),
            lambda page: page.approve(macs[-1]),
        )

    def outcome() -> Any:
        verdicts = [
            each for each in stage.by_api(POINT, "GET", "pxe/pending").reply["verdicts"] if each["mac"] == macs[-1]
        ]
        stage.boot(POINT, macs[-1])
        decision = stage.decision(POINT, macs[-1])
        expect(lab.point.locator("#approvals li.card").filter(has_text=macs[-1])).to_have_count(0)
        return {"verdicts": len(verdicts), "decision": [decision["outcome"], decision["cause"]]}

    by_each_door_of_a_point(lab, order, outcome, lambda _: None)


def test_deploying_is_the_same_by_every_door_of_a_point(lab: Lab) -> None:
    stage = lab.stage

    def outcome() -> Any:
        row = lab.point.locator("#deployments tbody tr").filter(has_text="unknown machines")
        expect(row.locator("td[data-name=Priority]")).to_have_text("3")
        change = last_change(stage)
        return stage.by_api(POINT, "GET", "deployments").reply | {"change": [change["action"], change["detail"]]}

    def undo(outcome: Any) -> None:
        (added,) = outcome["deployments"]
        assert_done(stage.by_api(POINT, "DELETE", f"deployments/{added['deployment']['id']}"))
        expect(lab.point.locator("#deployments tbody tr")).to_have_count(0)

    def order() -> Order:
        return Order(
            ("deployment", "add", "--unknown", "--priority", "3"),
            ("POST", "deployments", {"target": "unknown", "priority": 3}),
            lambda page: page.deploy_to_unknown(3),
        )

    by_each_door_of_a_point(lab, order, outcome, undo)


def test_changing_policy_is_the_same_by_every_door_of_a_point(lab: Lab) -> None:
    stage = lab.stage

    def outcome() -> Any:
        expect(lab.point.locator("#banner-maintenance")).to_contain_text("In maintenance: works")
        expect(lab.point.locator("#policy .changes li").first).to_contain_text("works")
        change = last_change(stage)
        reason = stage.by_api(POINT, "GET", "pxe/maintenance").reply
        return {
            "policy": stage.by_api(POINT, "GET", "policy").reply,
            "change": [change["action"], change["detail"]],
        } | reason

    def undo(_: Any) -> None:
        lab.point.locator("#policy").get_by_role("button", name="Answer machines again").click()
        expect(lab.point.locator("#banner-maintenance")).to_be_hidden()
        assert stage.by_api(POINT, "GET", "pxe/maintenance").reply == {"reason": ""}

    def order() -> Order:
        return Order(
            ("pxe", "maintenance", "--on", "works"),
            ("PATCH", "pxe/maintenance", {"reason": "works"}),
            lambda page: page.stop_boots("works"),
        )

    by_each_door_of_a_point(lab, order, outcome, undo)


# ---- the whole site, looked at at its points, over the bus


def by_each_door_of_the_site(
    lab: Lab, order: Callable[[], Order], outcome: Callable[[], Any], undo: Callable[[Any], None], at: str = ""
) -> None:
    """`at` is where the page is told to give the order."""
    stage = lab.stage
    doors: dict[str, Callable[[Order], Any]] = {
        "command": lambda order: assert_done(stage.site_cli(*order.words)),
        "API": lambda order: assert_done(stage.at_site(*order.request)),
        "page": lambda order: order.on_page(PageOrders(lab.look_from_site(), at)),
    }
    outcomes = {}
    for name, give in doors.items():
        give(order())
        outcomes[name] = outcome()
        undo(outcomes[name])
    assert_same(outcomes, 3)


def at_points(stage: Stage, path: str, names: tuple[str, ...] = POINTS) -> dict[str, Any]:
    """What these points say to GET over the bus."""
    return {name: assert_done(stage.by_bus(name, "GET", path)) for name in names}


def held(stage: Stage) -> dict[str, list[str]]:
    replies = at_points(stage, "content", BRANCHES)
    return {name: [each["package_id"] for each in reply["content"]] for name, reply in replies.items()}


@pytest.fixture
def speaking(lab: Lab) -> Stage:
    """Everything once the site has spoken: two of its points are a group."""
    stage = lab.stage
    known = {each["name"] for each in stage.at_site("GET", "points").reply["points"] if each["declared"]}
    for name in BRANCHES:
        if name not in known:
            assert_done(stage.at_site("POST", "points", {"name": name, "groups": [GROUP]}))
    stage.wait_until_points_follow()
    return stage


@pytest.mark.usefixtures("speaking")
def test_the_page_tells_whose_policy_it_is_once_the_site_speaks(lab: Lab) -> None:
    expect(lab.point.locator("#policy")).to_contain_text("Of site lab, its version")
    expect(lab.point.locator("#deployments")).to_contain_text("They come from site lab, where they are changed")
    expect(lab.point.get_by_role("button", name="Deploy…")).to_have_count(0)
    expect(lab.point.get_by_role("button", name="Stop boots…")).to_have_count(0)


def test_distributing_is_the_same_by_every_door_of_the_site(lab: Lab, speaking: Stage) -> None:
    stage = speaking
    stage.by_api(POINT, "DELETE", f"content/{PACKAGE}")

    def outcome() -> Any:
        stage.until("the package comes", lambda: held(stage) == {name: [PACKAGE] for name in BRANCHES})
        row = lab.site.locator("#assignments tbody tr").filter(has_text=PACKAGE)
        expect(lab.look_from_site().locator("#assignments")).to_contain_text("1 assignment")
        expect(row).to_contain_text(f"Each point of {GROUP}")
        return {
            "assignments": stage.at_site("GET", "assignments").reply,
            "content": at_points(stage, "content", BRANCHES),
        }

    def undo(_: Any) -> None:
        assert_done(stage.at_site("DELETE", f"assignments/group:{GROUP}/{PACKAGE}"))
        stage.until("the package goes", lambda: held(stage) == {name: [] for name in BRANCHES})

    def order() -> Order:
        return Order(
            ("site", "content", "add", PACKAGE, "--group", GROUP),
            ("POST", "assignments", {"target": f"group:{GROUP}", "package_id": PACKAGE}),
            lambda page: page.distribute(PACKAGE),
        )

    by_each_door_of_the_site(lab, order, outcome, undo, at=f"group:{GROUP}")


def test_starting_sessions_is_the_same_by_every_door_of_the_site(lab: Lab, speaking: Stage) -> None:
    stage = speaking
    assert_done(stage.at_site("POST", "assignments", {"target": f"group:{GROUP}", "package_id": PACKAGE}))
    stage.until("the package comes", lambda: held(stage) == {name: [PACKAGE] for name in BRANCHES})

    def outcome() -> Any:
        lab.look_from_site()
        for name in BRANCHES:
            row = lab.site.locator("#sessions li.session").filter(has_text=f"{PACKAGE} version 1 at {name}")
            expect(row).to_contain_text("Waiting for 3 of 3 receivers")
        return at_points(stage, "sessions", BRANCHES)

    def undo(outcome: Any) -> None:
        for name, reply in outcome.items():
            (session,) = reply["sessions"]
            assert_done(stage.by_bus(name, "DELETE", f"sessions/{session['session_id']}"))

    def order() -> Order:
        return Order(
            ("--group", GROUP, "session", "start", PACKAGE, "--minimum-clients", "3"),
            ("POST", f"groups/{GROUP}/sessions", {"package_id": PACKAGE, "minimum_clients": 3}),
            lambda page: page.start_session(PACKAGE, 3),
        )

    by_each_door_of_the_site(lab, order, outcome, undo, at=f"group:{GROUP}")


def test_approving_is_the_same_by_every_door_of_the_site(lab: Lab, speaking: Stage) -> None:
    stage = speaking
    macs: list[str] = []

    def order() -> Order:
        macs.append(stage.fresh_mac())
        stage.boot("b2", macs[-1])
        code = stage.decision("b2", macs[-1])["code"]
        return Order(
            ("--dp", "b2", "pxe", "approve", code),
            ("POST", f"points/b2/pxe/pending/{code}/approve", {}),
            lambda page: page.approve(macs[-1]),
        )

    def outcome() -> Any:
        stage.boot("b2", macs[-1])
        decision = stage.decision("b2", macs[-1])
        return [decision["outcome"], decision["cause"]]

    by_each_door_of_the_site(lab, order, outcome, lambda _: None)


def test_deploying_is_the_same_by_every_door_of_the_site(lab: Lab, speaking: Stage) -> None:
    stage = speaking

    def outcome() -> Any:
        stage.wait_until_points_follow()
        expect(lab.point.locator("#deployments tbody tr td[data-name=Priority]")).to_have_text("3")
        expect(lab.look_from_site().locator("#deployments tbody tr")).to_contain_text("unknown machines")
        return at_points(stage, "deployments") | {"site": stage.at_site("GET", "deployments").reply}

    def undo(outcome: Any) -> None:
        (added,) = outcome["site"]["deployments"]
        assert [reply["deployments"] for reply in outcome.values()] == [[added]] * 4
        assert_done(stage.at_site("DELETE", f"deployments/{added['deployment']['id']}"))
        stage.wait_until_points_follow()
        expect(lab.point.locator("#deployments tbody tr")).to_have_count(0)

    def order() -> Order:
        return Order(
            ("--site", "deployment", "add", "--unknown", "--priority", "3"),
            ("POST", "deployments", {"target": "unknown", "priority": 3}),
            lambda page: page.deploy_to_unknown(3),
        )

    by_each_door_of_the_site(lab, order, outcome, undo)


def test_changing_policy_is_the_same_by_every_door_of_the_site(lab: Lab, speaking: Stage) -> None:
    stage = speaking

    def outcome() -> Any:
        stage.wait_until_points_follow()
        expect(lab.point.locator("#banner-maintenance")).to_contain_text("In maintenance: works")
        expect(lab.look_from_site().locator("#policy .changes li").first).to_contain_text(
            re.compile("maintenance.*works")
        )
        return at_points(stage, "pxe/maintenance") | {"site": stage.at_site("GET", "pxe/maintenance").reply}

    def undo(outcome: Any) -> None:
        assert list(outcome.values()) == [{"reason": "works"}] * 4
        lab.site.locator("#policy").get_by_role("button", name="Answer machines again").click()
        expect(lab.site.locator("#banner-maintenance")).to_be_hidden()
        stage.wait_until_points_follow()
        expect(lab.point.locator("#banner-maintenance")).to_be_hidden()

    def order() -> Order:
        return Order(
            ("--site", "pxe", "maintenance", "--on", "works"),
            ("PATCH", "pxe/maintenance", {"reason": "works"}),
            lambda page: page.stop_boots("works"),
        )

    by_each_door_of_the_site(lab, order, outcome, undo)


def test_what_some_points_of_a_group_refuse_is_told_beside_where_it_was_done(
    lab: Lab, speaking: Stage, tmp_path: Path
) -> None:
    image = tmp_path / "other.img"
    image.write_bytes(bytes(1 << 20))
    assert_done(speaking.by_cli("hq", "content", "add", str(image), "--package", "LAB00002"))
    page = lab.look_from_site()
    page.locator("#sessions").get_by_role("button", name="Start…").click()
    dialog = page.get_by_role("dialog", name="Start a session")
    dialog.get_by_label("Package").fill("LAB00002")
    dialog.get_by_label("At", exact=True).select_option("group:all")
    dialog.get_by_role("button", name="Start", exact=True).click()
    told = dialog.get_by_role("alert")
    expect(told).to_contain_text("Done at 1 point, refused at 2.")
    for name in BRANCHES:
        expect(told).to_contain_text(f"{name}: ")
    expect(told).to_contain_text("LAB00002")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    (session,) = assert_done(speaking.by_bus("hq", "GET", "sessions"))["sessions"]
    assert session["package_id"] == "LAB00002"
