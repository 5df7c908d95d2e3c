# SPDX-License-Identifier: Apache-2.0
"""`dpd point …` against a real site server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.cli.conftest import Dpd
from tests.nats_server import NATS_SERVER
from tests.site_process import LoopbackSite, loopback_site

from dpd.bus.connection import BusConnection
from dpd.bus.messages import Hello, encode
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSite]:
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with loopback_site(tmp_path_factory.mktemp("site"), "hq") as site:
        yield site


@pytest.fixture
def at_site(site: LoopbackSite, dpd: Dpd, monkeypatch: pytest.MonkeyPatch) -> Dpd:
    monkeypatch.setenv("DPD_SITE_SOCKET", site.server.control_socket)
    return dpd


def test_points_are_declared_shown_changed_and_removed(at_site: Dpd) -> None:
    assert at_site("point", "add", "b9", "--group", "north", "--url", "http://b9:8080").code == 0
    head, *lines = at_site("point", "list").out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert head.split()[0] == "NAME"
    assert "never" in rows["b9"]
    assert "present" in rows["hq"]
    assert at_site("point", "change", "b9", "--description", "by the river").code == 0
    shown = at_site("point", "show", "b9").out
    assert "by the river" in shown
    assert "http://b9:8080" in shown
    assert "north" in shown
    assert at_site("point", "change", "b9", "--no-groups").code == 0
    assert at_site("point", "show", "b9", "--json").json["groups"] == []
    assert at_site("point", "remove", "b9").code == 0
    assert (
        at_site("point", "show", "b9").err == "dpd: no distribution point b9; `dpd point list` shows those there are\n"
    )


def test_a_point_shows_what_it_said_of_itself(at_site: Dpd) -> None:
    shown = at_site("point", "show", "hq").out
    assert "present, not declared" in shown
    (policy,) = (line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("Policy"))
    assert policy.strip() != "-"  # its own, or the site's by now, which the test before has changed


def test_content_is_assigned_listed_and_taken_back(at_site: Dpd) -> None:
    assert at_site("site", "content", "list").out.startswith("The site has no point hold anything")
    assert "to be at point hq" in at_site("site", "content", "add", "LAB00001", "--dp", "hq").out
    assert at_site("site", "content", "add", "BASE", "--group", "all", "--source-version", "2").code == 0
    lines = at_site("site", "content", "list").out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["point", "hq", "LAB00001", "newest"],
        ["group", "all", "BASE", "2"],
    ]
    for words in (("LAB00001", "--dp", "hq"), ("BASE", "--group", "all")):
        assert at_site("site", "content", "remove", *words).code == 0
    assert "expected one of them" in at_site("site", "content", "add", "BASE").err


def test_a_host_and_its_copy_are_named_with_what_to_do(at_site: Dpd, site: LoopbackSite) -> None:
    asyncio.run(greet_by_turns(site.nats.url, "c1", "c2"))
    site.until("the site server has heard", lambda: "Trouble:" in at_site("point", "list").out)
    (line,) = (each for each in at_site("point", "list").out.splitlines() if each.startswith("Trouble:"))
    assert "c1 and c2 number their status messages alike" in line
    assert "take messages.db out of its state_dir" in at_site("point", "show", "c1").out


async def greet_by_turns(url: str, *points: str) -> None:
    connection = BusConnection(BusSettings(url=url), name="test")
    running = asyncio.get_running_loop().create_task(connection.run([]))
    async with asyncio.timeout(60):
        await connection.connected.wait()
        assert connection.link is not None
        for point in points * 2:
            hello = Hello(point, "lab", "0", "ready", 1.0, 0, 0.0, "one series", 0, "", {})
            await connection.link.publish(Subjects("lab").hello(point), encode(hello))
        await connection.link.client.flush()
    running.cancel()
    await asyncio.wait([running])
