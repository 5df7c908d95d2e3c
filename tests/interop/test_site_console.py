# SPDX-License-Identifier: Apache-2.0
"""The page of a site server in a real browser: its points, who waits at them, and one point looked at through it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from bench.netns import missing
from playwright.sync_api import expect
from tests.deployment.executions import begin, said
from tests.interop.page_stage import CHROMIUM, ORIGIN, PATIENCE_MS, POINT, SITE, Stage, check_looks, site_staged

from dpd.control.access.callers import Role
from dpd.deployment.database import open_database
from dpd.deployment.execution_book import ExecutionBook


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    absent = missing("dnsmasq", "nats-server", CHROMIUM)
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    expect.set_options(timeout=PATIENCE_MS)
    with site_staged(tmp_path_factory.mktemp("site_page")) as stage:
        yield stage
        assert stage.problems == []


def test_who_waits_at_a_point_is_approved_at_the_site_and_boots_there(stage: Stage) -> None:
    with stage.page(Role.OPERATOR) as page:
        expect(page.locator("#name")).to_have_text(SITE)
        row = page.locator("#points tbody tr").filter(has_text=POINT)
        expect(row.locator(".badge")).to_have_text("Present")
        mac = stage.new_mac()
        boot, _ = stage.boot(mac)
        assert boot is not None
        card = page.locator("#approvals li.card").filter(has_text=mac)
        expect(card).to_contain_text(f"at {POINT}")
        card.get_by_role("button", name=f"Approve {mac}").click()
        expect(card).to_contain_text("Approved once")
        boot, address = stage.boot(mac)
        assert boot is not None
        assert stage.fetch(boot, address) > 0
        expect(page.locator("#messages")).to_contain_text(f"{POINT}: {mac}")
        check_looks(page)
        row.get_by_role("link", name=POINT).click()
        expect(page).to_have_url(f"{ORIGIN}/?point={POINT}")
        expect(page.locator("#name")).to_have_text(POINT)
        expect(page.locator("#about")).to_contain_text(f"site {SITE}")
        expect(page.locator("#machines li.machine").filter(has_text=mac).locator(".badge")).to_have_text("Booted")
        page.get_by_role("link", name="All points").click()
        expect(page.locator("#name")).to_have_text(SITE)


def test_approved_under_a_name_at_the_site_it_is_a_computer_of_the_site(stage: Stage) -> None:
    with stage.page(Role.OPERATOR) as page:
        expect(page.locator("#points td[data-name=Policy]")).to_have_text(re.compile("[1-9][0-9]*"))
        mac = stage.new_mac()
        stage.boot(mac)
        card = page.locator("#approvals li.card").filter(has_text=mac)
        card.get_by_label("Computer name").fill("PC-300")
        card.get_by_role("button", name=f"Approve {mac}").click()
        expect(card.locator(".done")).to_contain_text("Approved as PC-300. It boots at its next question.")
        known = page.evaluate("async () => (await (await fetch('/v1/computers/PC-300')).json()).computer.macs")
        assert known == [mac]
        expect(page.locator("#about")).to_contain_text("1 computer ")
        boot, address = stage.boot(mac)
        assert boot is not None
        assert stage.fetch(boot, address) > 0
        expect(page.locator("#messages")).to_contain_text(f"{mac} (PC-300) has all of its boot image")


def test_a_point_that_goes_away_is_told_with_its_name_and_comes_back(stage: Stage) -> None:
    with stage.page() as page:
        page.goto(f"{ORIGIN}/?point={POINT}")
        expect(page.locator("#connection-text")).to_have_text("Live")
        stage.dpd.kill()
        expect(page.locator("#banner-away")).to_contain_text(f"{POINT} has not answered since")
        write_book(stage)
        stage.dpd.restart()
        expect(page.locator("#connection-text")).to_have_text("Live")
        expect(page.locator("#banner-away")).to_be_hidden()
        page.get_by_role("link", name="All points").click()  # what is deployed at any point is shown at the site
        run = page.locator("#executions li.execution").filter(has_text="PC-201")
        expect(run.locator(".badge")).to_have_text("Running")
        expect(run).to_contain_text(f"at {POINT} · debian version 3")
        run.get_by_role("button", name="PC-201, Running: its steps").click()
        expect(run.locator(".run-steps li")).to_have_count(4)


def write_book(stage: Stage) -> None:
    with closing(open_database(stage.dpd.state / "deployment.db")) as database:
        book, now = ExecutionBook(database), time.time()
        book.take_reports(begin(book, "pc-201", at=now), [said(1, "1", "started", at=now)], now)
