# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser against a real `dpd serve`: machines boot, wait and are approved before its eyes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bench.netns import missing
from playwright.sync_api import Locator, Page, expect
from tests.deployment.executions import begin, said
from tests.interop.daemon import DPD
from tests.interop.page_orders import PageOrders
from tests.interop.page_stage import CHROMIUM, PATIENCE_MS, Stage, alone_staged, check_looks

from dpd.control.access.callers import Role
from dpd.deployment.database import open_database
from dpd.deployment.execution_book import ExecutionBook
from dpd_probe.steps import ProbeError

APPROVE = re.compile("^Approve ")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    absent = missing("dnsmasq", "curl", CHROMIUM)
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    expect.set_options(timeout=PATIENCE_MS)
    with alone_staged(tmp_path_factory.mktemp("page")) as stage:
        yield stage


@pytest.fixture(autouse=True)
def nothing_to_complain_of(stage: Stage) -> Iterator[None]:
    """No script fails, and nothing is refused by the page's own policy."""
    stage.problems.clear()
    yield
    assert stage.problems == []


@pytest.fixture
def booted(stage: Stage) -> str:
    """The name of a known computer that has just booted."""
    mac = stage.new_mac()
    name = f"PC-3{stage.last:02}"
    stage.dpd.tell("computer", "add", name, "--mac", mac)
    boot_whole(stage, mac)
    return name


@pytest.fixture(scope="module")
def published(stage: Stage) -> Path:
    """The image that is LAB00001."""
    image = stage.dpd.config.with_name("image.img")
    image.write_bytes(bytes(range(256)) * (80 << 10))
    stage.dpd.tell("content", "publish", image, "--package", "LAB00001")
    return image


def machine(page: Page, name: str) -> Locator:
    return page.locator("#machines li.machine").filter(has_text=name)


def card(page: Page, code: str) -> Locator:
    return page.locator("#approvals li.card").filter(has_text=code)


def let_wait(stage: Stage) -> tuple[str, str]:
    """An unknown machine boots and shows a code: its MAC and that code."""
    mac = stage.new_mac()
    boot, _ = stage.boot(mac)
    assert boot is not None
    waiting = stage.ask("/v1/pxe/pending")["pending"]
    return mac, next(each["code"] for each in waiting if each["mac"] == mac)


def boot_whole(stage: Stage, mac: str) -> None:
    """It boots once more, and gets what is for it."""
    boot, address = stage.boot(mac)
    assert boot is not None
    assert stage.fetch(boot, address) > 0


def test_an_empty_page_says_what_comes_next(stage: Stage) -> None:
    """The first of all, while nothing has been asked yet."""
    with stage.page() as page:
        expect(page.locator("#connection-text")).to_have_text("Live")
        expect(page.locator("#machines .empty")).to_contain_text("No machine has asked for a network boot")
        expect(page.locator("#packages .empty")).to_contain_text("dpd content publish")
        expect(page.locator("#role")).to_have_text("Read only")


def test_the_story_of_a_boot_appears_while_it_happens(stage: Stage) -> None:
    mac = stage.new_mac()
    stage.dpd.tell("computer", "add", "PC-017", "--mac", mac)
    with stage.page() as page:
        expect(page.locator("#connection-text")).to_have_text("Live")
        boot, address = stage.boot(mac)
        assert boot is not None
        row = machine(page, "PC-017")
        expect(row.locator(".badge")).to_have_text("Booting")
        row.get_by_role("button", name="PC-017").click()
        expect(row.locator(".steps li").first).to_contain_text("asks for a network boot as PXEClient")
        expect(row.locator(".steps")).to_contain_text("computer PC-017")
        assert stage.fetch(boot, address) > 0
        expect(row.locator(".badge")).to_have_text("Booted")
        expect(row.locator(".steps li").last).to_contain_text("has fetched winpe.efi by TFTP")
        expect(page.locator("#messages")).to_contain_text(mac)


def test_without_a_token_the_page_only_shows_who_waits(stage: Stage) -> None:
    _, code = let_wait(stage)
    with stage.page() as page:
        waiting = card(page, code)
        expect(waiting).to_be_visible()
        expect(waiting.get_by_role("button", name=APPROVE)).to_have_count(0)
        assert refusal(page, "") == 403
        waiting.get_by_role("button", name="Sign in to approve").click()
        expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def refusal(page: Page, token: str) -> int:
    """The status for who denies a machine from within the page, whatever its buttons are."""
    ask = """async (token) => {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      return (await fetch("/v1/pxe/pending/52:54:00:90:ff:ff/deny", { method: "POST", headers })).status;
    }"""
    return int(page.evaluate(ask, token))


def test_over_plain_http_from_elsewhere_nobody_signs_in(stage: Stage) -> None:
    _, code = let_wait(stage)
    with stage.page(origin=f"http://{stage.lan['dpd'].address}:8090") as page:
        card(page, code).get_by_role("button", name="Sign in to approve").click()
        expect(page.locator("#banner-notice")).to_contain_text("Signing in needs HTTPS")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("#account")).to_be_hidden()
        assert refusal(page, stage.tokens[Role.OPERATOR]) == 401  # also where somebody sends it nevertheless


def test_a_viewer_cannot_approve(stage: Stage) -> None:
    _, code = let_wait(stage)
    with stage.page(Role.VIEWER) as page:
        expect(page.locator("#role")).to_contain_text("(viewer)")
        expect(card(page, code)).to_contain_text("Approving needs the role operator")
        expect(card(page, code).get_by_role("button", name=APPROVE)).to_have_count(0)
        assert refusal(page, stage.tokens[Role.VIEWER]) == 403


def test_an_unknown_machine_is_approved_by_the_button_and_boots(stage: Stage) -> None:
    with stage.page() as page:
        page.get_by_role("button", name="Sign in").first.click()
        page.get_by_label("Token").fill("dpd_this-is-not-the-token-at-all")
        page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
        expect(page.locator("#sign-in-error")).to_contain_text("dpd does not know this token")
        page.get_by_label("Token").fill(stage.tokens[Role.OPERATOR])
        page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
        expect(page.locator("#role")).to_contain_text("(operator)")
        mac, code = let_wait(stage)
        waiting = card(page, code)  # it came while the page was open
        expect(page.locator("#announcements")).to_contain_text(f"Machine {mac} waits for approval")
        waiting.get_by_label("Computer name").fill("PC-101")
        waiting.get_by_role("button", name=APPROVE).click()
        expect(waiting).to_contain_text("Approved as PC-101. It boots at its next question.")
        expect(waiting).to_have_count(0)
        boot_whole(stage, mac)
        expect(machine(page, "PC-101").locator(".badge")).to_have_text("Booted")
    assert [each["macs"] for each in stage.ask("/v1/computers")["computers"] if each["name"] == "PC-101"] == [[mac]]


def test_a_name_that_cannot_be_is_told_at_the_machine_and_what_was_typed_stays(stage: Stage) -> None:
    _, code = let_wait(stage)
    with stage.page(Role.OPERATOR) as page:
        card(page, code).get_by_label("Computer name").fill("PC 1/0")
        card(page, code).get_by_role("button", name=APPROVE).click()
        expect(card(page, code).get_by_role("alert")).to_contain_text("expected 1 to 63 of")
        expect(card(page, code).get_by_label("Computer name")).to_have_value("PC 1/0")
        expect(card(page, code).get_by_label("Computer name")).to_be_focused()


def test_a_machine_is_approved_and_another_denied_by_keyboard_alone(stage: Stage) -> None:
    mac, _ = let_wait(stage)
    other, code = let_wait(stage)
    with stage.page(Role.OPERATOR) as page:
        expect(card(page, code)).to_be_visible()
        tab_to(page, f"Computer name for {mac}, optional")
        page.keyboard.type("PC-102")
        page.keyboard.press("Enter")
        expect(page.locator("#announcements")).to_contain_text(f"{mac} approved as PC-102")
        tab_to(page, f"Deny {other}")
        page.keyboard.press("Space")
        expect(page.locator("#announcements")).to_contain_text(f"{other} denied")
        expect(card(page, code)).to_have_count(0)
        tab_to(page, "1 machine denied")
        page.keyboard.press("Enter")
        tab_to(page, f"Take back the denial of {other}")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="1 machine denied")).to_have_count(0)
    boot_whole(stage, mac)
    assert all(each["mac"] != other for each in stage.ask("/v1/pxe/pending")["verdicts"])


def test_who_may_not_give_an_order_does_not_see_its_button(stage: Stage) -> None:
    ordinary, special = ("Distribute…", "Start…"), ("Deploy…", "Stop boots…", "Stop content…", "Remove deployment 1")
    seen = {None: (), Role.VIEWER: (), Role.OPERATOR: ordinary, Role.ADMIN: (*ordinary, *special)}
    for role, buttons in seen.items():
        with stage.page(role) as page:
            expect(page.locator("#deployments tbody tr")).to_have_count(1)
            expect(page.locator("#policy .changes li").first).to_be_visible()
            expect(page.locator("#packages :is(.empty, li):visible").first).to_be_visible()
            for name in (*ordinary, *special):
                expect(page.get_by_role("button", name=name)).to_have_count(1 if name in buttons else 0)


def test_what_a_deployment_lacks_is_told_in_its_dialog_and_what_was_typed_stays(stage: Stage) -> None:
    with stage.page(Role.ADMIN) as page:
        page.get_by_role("button", name="Deploy…").click()
        dialog = page.get_by_role("dialog", name="Deploy a boot image")
        dialog.get_by_label("Computer", exact=True).fill("PC-999")
        dialog.get_by_role("button", name="Deploy", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text("PC-999")
        expect(dialog.get_by_label("Computer", exact=True)).to_have_value("PC-999")
        dialog.get_by_label("For", exact=True).select_option("all")
        expect(dialog.get_by_label("Computer", exact=True)).to_be_hidden()
        dialog.get_by_label("Purpose").select_option("required")
        dialog.get_by_role("button", name="Deploy", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text("High risk")
        expect(dialog.get_by_label("So many computers are meant")).to_be_focused()
        check_looks(page)
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("button", name="Deploy…")).to_be_focused()
    assert len(stage.ask("/v1/deployments")["deployments"]) == 1


def test_a_required_deployment_is_counted_made_and_removed_by_keyboard_alone(stage: Stage) -> None:
    with stage.page(Role.ADMIN) as page:
        expect(page.locator("#deployments tbody tr")).to_have_count(1)
        tab_to(page, "Deploy…")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Deploy a boot image")
        expect(dialog.get_by_label("For", exact=True)).to_be_focused()
        for _ in range(2):
            page.keyboard.press("ArrowDown")
        expect(dialog.get_by_label("For", exact=True)).to_have_value("all")
        tab_to(page, "Purpose")
        page.keyboard.press("ArrowDown")
        expect(dialog.get_by_label("Purpose")).to_have_value("required")
        tab_to(page, "Deploy")
        page.keyboard.press("Enter")
        expect(dialog.get_by_label("So many computers are meant")).to_be_focused()
        page.keyboard.type(str(len(stage.ask("/v1/computers")["computers"])))
        page.keyboard.press("Enter")
        expect(page.locator("#announcements")).to_contain_text("Deployment 2 for all known computers is there")
        tab_to(page, "Remove deployment 2")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Remove deployment 2?")).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.locator("#announcements")).to_contain_text("Deployment 2 is removed")
        expect(page.locator("#deployments-title")).to_be_focused()
    assert len(stage.ask("/v1/deployments")["deployments"]) == 1


def test_a_session_is_started_and_stopped_and_content_kept_as_it_is(stage: Stage) -> None:
    image = stage.dpd.config.with_name("small.img")
    image.write_bytes(bytes(range(256)) * 64)
    stage.dpd.tell("content", "publish", image, "--package", "LAB00009")
    with stage.page(Role.OPERATOR) as page:
        PageOrders(page).start_session("LAB00009", 4)
        session = page.locator("#sessions li.session").filter(has_text="LAB00009")
        expect(session).to_contain_text("Waiting for 4 of 4 receivers")
        session.get_by_role("button", name="Stop the session of LAB00009").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(session.get_by_role("button", name="Stop the session of LAB00009")).to_have_count(0)
    with stage.page(Role.ADMIN) as page:
        page.get_by_role("button", name="Stop content…").click()
        page.get_by_label("Reason").fill("a disk is changed")
        page.keyboard.press("Enter")
        expect(page.locator("#banner-content-maintenance")).to_contain_text("a disk is changed")
        page.get_by_role("button", name="Hand out content again").click()
        expect(page.locator("#banner-content-maintenance")).to_be_hidden()
    stage.dpd.tell("content", "remove", "LAB00009")
    assert stage.ask("/v1/maintenance") == {"reason": ""}


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus, which must then be seen."""
    for _ in range(80):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => {
              const node = document.activeElement;
              const name = node.ariaLabel ?? (node.labels?.[0] ?? node).innerText.trim();
              return [name, getComputedStyle(node).outlineStyle];
            }"""
        )
        if told[0] == name:
            assert told[1] != "none"
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def test_what_somebody_types_and_opens_stays_while_machines_come(stage: Stage, booted: str) -> None:
    _, code = let_wait(stage)
    with stage.page(Role.OPERATOR) as page:
        row = machine(page, booted)
        row.get_by_role("button", name=booted).click()
        expect(row.locator(".steps").first).to_be_visible()
        name = card(page, code).get_by_label("Computer name")
        name.fill("PC-half")
        name.evaluate("(input) => { input.setSelectionRange(1, 4); globalThis.before = input; }")
        _, newcomer = let_wait(stage)
        expect(card(page, newcomer)).to_be_visible()
        expect(name).to_be_focused()
        assert name.evaluate("(input) => [input.value, input.selectionStart, input.selectionEnd, input === before]") == ["PC-half", 1, 4, True]  # fmt: skip
        expect(row.locator(".steps").first).to_be_visible()


def test_a_role_that_was_taken_away_is_told(stage: Stage) -> None:
    _, code = let_wait(stage)
    before = stage.roles.read_text(encoding="utf-8")
    with stage.page(Role.OPERATOR) as page:
        approve = card(page, code).get_by_role("button", name=APPROVE)
        expect(approve).to_be_visible()
        stage.roles.write_text(before.replace('"operator"', '"viewer"'), encoding="utf-8")
        try:
            approve.click()
            expect(card(page, code).get_by_role("alert")).to_contain_text("Your role does not allow that")
            stage.roles.write_text("", encoding="utf-8")  # nobody is known at all
            expect(page.locator("#banner-notice")).to_contain_text("does not know your token any more")
            expect(page.locator("#role")).to_have_text("Read only")
        finally:
            stage.roles.write_text(before, encoding="utf-8")


def test_what_machines_say_of_themselves_stays_text(stage: Stage) -> None:
    evil = "<img src=x onerror=document.title='taken'>"
    mac = stage.new_mac()
    boot, address = stage.boot(mac, vendor_class=f"PXEClient:Arch:00007:{evil}".encode())
    assert boot is not None
    with pytest.raises(ProbeError):
        stage.fetch(boot, address, file=f"{evil}<script>document.title='taken'</script>.efi")
    with stage.page() as page:
        row = machine(page, mac)
        row.get_by_role("button", name=mac).click()
        expect(row.locator(".steps")).to_contain_text(evil)
        assert page.locator("main img, main script").count() == 0
        assert "taken" not in page.title()
        made = "() => { const a = document.createElement('p'); a.innerHTML = '<b>x</b>'; }"
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate(made)  # and whoever tries to make markup of text fails
    stage.problems[:] = [each for each in stage.problems if "TrustedHTML" not in each]


@pytest.mark.usefixtures("booted")  # so the client has had a lease
def test_a_waiting_session_is_let_go_by_the_button_and_shows_its_progress(stage: Stage, published: Path) -> None:
    stage.dpd.tell("session", "start", "LAB00001", "--minimum-clients", "5", "--wait", "10m")
    source = f"http://{stage.lan['dpd'].address}:8080"
    with stage.page(Role.OPERATOR) as page:
        expect(page.locator("#packages")).to_contain_text("LAB00001")
        target = published.with_suffix(".received")
        receiver = stage.lan["client"].start(DPD, "receive", source, "LAB00001", "-o", target)
        session = page.locator("#sessions li.session")
        expect(session.locator(".badge")).to_have_text("Waiting")
        session.get_by_role("button", name="Send LAB00001 now").click()
        expect(page.locator("#messages")).to_contain_text("has all of LAB00001")
        assert receiver.wait(30) == 0
    assert target.read_bytes() == published.read_bytes()


@pytest.mark.usefixtures("published")
def test_every_text_stands_out_and_nothing_hangs_over(stage: Stage, booted: str) -> None:
    with stage.page(Role.OPERATOR) as page:
        row = machine(page, booted)
        row.get_by_role("button", name=booted).click()
        expect(row.locator(".steps li").first).to_be_visible()
        expect(page.locator("#packages")).to_contain_text("LAB00001")
        check_looks(page)


def test_the_page_finds_back_when_the_server_was_away(stage: Stage, booted: str) -> None:
    _, code = let_wait(stage)
    with stage.page(Role.OPERATOR) as page:
        expect(card(page, code)).to_be_visible()
        expect(machine(page, booted)).to_be_visible()
        stage.dpd.kill()
        expect(page.locator("#banner-away")).to_contain_text("dpd has not answered since")
        expect(page.locator("#connection-text")).to_have_text("No answer")
        expect(machine(page, booted)).to_be_visible()  # what was known stays
        stage.dpd.restart()
        expect(page.locator("#connection-text")).to_have_text("Live")
        expect(page.locator("#banner-away")).to_be_hidden()
        expect(card(page, code)).to_have_count(0)  # who waits asks again; this one does not
        mac, code = let_wait(stage)
        card(page, code).get_by_role("button", name=APPROVE).click()
        expect(page.locator("#announcements")).to_contain_text(f"{mac} approved")
        expect(page.locator("#messages")).to_contain_text(mac)  # the stream goes on, too


def test_a_deployment_under_way_is_shown_step_by_step_and_is_stopped_by_the_button(stage: Stage) -> None:
    stage.dpd.kill()
    now = time.time()
    with closing(open_database(stage.dpd.state / "deployment.db")) as database:
        book = ExecutionBook(database)
        running = begin(book, "pc-201", at=now - 60)
        book.take_reports(running, [said(1, "1", "started"), said(2, "1", "done"), said(3, "2.1", "started")], now)
        moving = said(4, "2.1", "progress", done_bytes=300 << 20, total_bytes=1 << 30, rate_bit_s=400_000_000)
        book.take_reports(running, [moving], now)
        failed = begin(book, "pc-202", at=now - 90)
        told = [
            said(1, "1", "started"),
            said(2, "1", "failed", "the disk is too small"),
            said(3, "", "sequence_failed", "the disk is too small"),
        ]
        book.take_reports(failed, told, now - 30)
    stage.dpd.restart()
    with stage.page(Role.OPERATOR) as page:
        rows = page.locator("#executions li.execution")
        row = rows.filter(has_text="PC-201")
        expect(row.locator(".badge")).to_have_text("Running")
        expect(row).to_contain_text("now Apply the image · 300 MiB of 1.0 GiB · 400 Mbit/s")
        stage.dpd.tell("collection", "variable", "set", "unknown", "Zone", "Berlin")
        stage.dpd.tell("collection", "variable", "set", "all", "AdminPassword", "hunter2", "--secret")
        expect(page.locator("#variables tbody tr")).to_have_text(["all known computersAdminPassword••••", "unknown computersZoneBerlin"])  # fmt: skip
        row.get_by_role("button", name="PC-201, Running: its steps").click()
        expect(row.locator(".run-steps li")).to_have_count(4)
        expect(row.locator(".run-steps li").first).to_contain_text("Done1 Partition the disk")
        over = rows.filter(has_text="PC-202")
        expect(over.locator(".badge")).to_have_text("Failed")
        expect(over).to_contain_text("the disk is too small")
        expect(over).to_contain_text("What to do: Give the volume more room")
        check_looks(page)
        row.get_by_role("button", name="Stop deploying PC-201").click()
        page.get_by_role("dialog").get_by_label("Reason").fill("another room")
        page.keyboard.press("Enter")
        expect(row).to_contain_text("told to stop: another room")
    told_back = [each for each in stage.ask("/v1/executions")["executions"] if each["id"] == running]
    assert [each["cancel_reason"] for each in told_back] == ["another room"]


@pytest.fixture
def closed_to_strangers(stage: Stage) -> Iterator[None]:
    """Whoever looks must sign in."""
    text = stage.dpd.config.read_text(encoding="utf-8")
    closed = text.replace("anonymous = true", "anonymous = false").replace("0.0.0.0:8090", "127.0.0.1:8090")
    stage.dpd.config.write_text(closed, encoding="utf-8")
    stage.dpd.kill_and_restart()
    yield
    stage.dpd.config.write_text(text, encoding="utf-8")
    stage.dpd.kill_and_restart()


@pytest.mark.usefixtures("closed_to_strangers")
def test_where_nobody_may_look_the_page_asks_for_a_token(stage: Stage) -> None:
    with stage.page() as page:
        expect(page.get_by_role("heading", name="Sign in to look")).to_be_visible()
        expect(page.locator("#panels")).to_be_hidden()
        page.locator("#signed-out").get_by_role("button", name="Sign in").click()
        page.get_by_label("Token").fill(stage.tokens[Role.VIEWER])
        page.keyboard.press("Enter")
        expect(page.locator("#connection-text")).to_have_text("Live")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name=re.compile("Sign in to look"))).to_be_visible()


def test_the_stream_of_events_is_read_the_same_wherever_it_is_cut(stage: Stage) -> None:
    text = (
        ": hi\r\nid: e-1\nevent: missed\ndata: {\ndata: }\n\nretry: 9\nid: e-2\n\nid:e-3\r\ndata:x:y\r\n\r\ndata: é\n\n"
    )
    read = """async ([text, size]) => {
      const { Lines } = await import("/stream.js");
      const found = [];
      const lines = new Lines((...event) => found.push(event));
      for (let at = 0; at < text.length; at += size) lines.feed(text.slice(at, at + size));
      return found;
    }"""
    expected = [
        ["e-1", "missed", "{\n}"],
        ["e-2", "message", ""],
        ["e-3", "message", "x:y"],
        ["e-3", "message", "é"],
    ]
    with stage.page(Role.VIEWER) as page:
        for size in (1, 2, 3, 7, 1000):
            assert page.evaluate(read, [text, size]) == expected


def test_what_cannot_be_seen_in_a_text_is_made_visible(stage: Stage) -> None:
    with stage.page(Role.VIEWER) as page:
        shown = page.evaluate(
            "async (text) => (await import('/words.js')).plain(text, 20)", "a\u202eb\x00c\n" + "x" * 50
        )
    assert shown == "a\ufffdb\ufffdc\ufffd" + "x" * 13 + "…"


def test_a_torrent_of_messages_is_told_and_does_not_keep_the_page_from_asking(stage: Stage) -> None:
    let = """async () => {
      const { Live } = await import("/live.js");
      let loads = 0;
      const part = { load: async () => { loads += 1; }, paceMs: () => 60_000, wants: () => true };
      const live = new Live({});
      live.start([part]);
      for (let count = 0; count < 40; count += 1) {
        live.hear({});
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      live.stop();
      return loads;
    }"""
    with stage.page(Role.VIEWER) as page:
        loads = page.evaluate(let)
    assert 2 <= loads <= 20  # not one for each of 40, and not none until there is peace


RECEIVER = {
    "name": "",
    "address": "10.0.0.9",
    "mode": "multicast",
    "state": "receiving",
    "speed_class": 0,
    "verified_slabs": 80,
    "received": 1000,
    "lost": 0,
    "socket_drops": 0,
}


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({}, ""),
        ({"verified_slabs": 70}, ""),
        ({"verified_slabs": 20}, "has 20 % where the middle has 80 %"),
        ({"state": "silent"}, "is not heard any more"),
        ({"mode": "unicast", "lost": 60}, "gets it by HTTP, lost 5.7 % on the way"),
        ({"speed_class": 1, "socket_drops": 7}, "is in the slower stream 1, dropped 7 datagrams itself"),
    ],
)
def test_who_holds_a_session_up_is_told_with_the_reason(stage: Stage, differs: dict[str, object], words: str) -> None:
    judge = """async ([one, other]) => {
      const { judge } = await import("/sessions.js");
      return judge(one, { slabs: 100, members: [one, other, other, other] }).trouble;
    }"""
    with stage.page(Role.VIEWER) as page:
        assert page.evaluate(judge, [RECEIVER | differs, RECEIVER]) == words
