# SPDX-License-Identifier: Apache-2.0
"""The authorization block of docs/site.md, given to a real nats-server: enough for a site, and no more for a point."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.bus.conftest import linked
from tests.bus.site_side import SITE, SiteSide, until
from tests.control.bus.test_point import MODEL, Place
from tests.nats_server import HUB_DOMAIN, NatsServer, needs_nats

from dpd.bus.messages import Desired, DesiredPackage
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings
from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.settings import ControlSettings, DaemonSettings, Settings
from dpd.site.model import SiteModel
from dpd.site.records import Deployment, Purpose, Run

pytestmark = needs_nats

DOCS = Path(__file__).parent.parent.parent / "docs" / "site.md"
TOKENS = {"site": "s" * 24, "branch-1": "1" * 24, "branch-2": "2" * 24}


def authorization() -> str:
    """The block as documented, for the site of these tests."""
    found = re.search(r"```\n(authorization \{.*?\n\})\n```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    text = found[1].replace("dpd.lab.", f"dpd.{SITE}.").replace("dpd_lab_", f"dpd_{SITE}_")
    for name, password in TOKENS.items():
        assert f'"PASSWORD of {name}"' in text
        text = text.replace(f'"PASSWORD of {name}"', f'"{password}"')
    return text


@pytest.fixture
def hub(tmp_path: Path) -> Any:
    with NatsServer(tmp_path / "nats", extra=authorization()) as server:
        yield server


@pytest.fixture
def credentials(tmp_path: Path) -> dict[str, str]:
    """Paths of password files."""
    paths = {}
    for name, password in TOKENS.items():
        path = tmp_path / f"{name}.password"
        path.write_text(password)
        path.chmod(0o600)
        paths[name] = str(path)
    return paths


@pytest.fixture
async def site(hub: NatsServer, credentials: dict[str, str]) -> AsyncIterator[SiteSide]:
    async with SiteSide(hub.url, user="site", token_file=credentials["site"]) as site:
        yield site


async def test_a_point_can_do_all_that_it_has_to(site: SiteSide, hub: NatsServer, credentials: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    settings = Settings(
        daemon=DaemonSettings(state_dir=str(tmp_path)), control=ControlSettings(socket=str(tmp_path / "control.sock"))
    )
    bus = BusSettings(url=hub.url, site=SITE, point="branch-1", user="branch-1", token_file=credentials["branch-1"])
    model = SiteModel(computers=MODEL.computers, deployments=(Deployment(1, "all", "", Purpose.REQUIRED),))
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        place = Place(settings, library, tmp_path)
        await site.publish(model, 3)
        await site.desire("branch-1", Desired([DesiredPackage("A")]))
        async with place.joined(bus) as point:
            await until(lambda: point.status().policy_version == 3, "the policy")
            await until(lambda: point.status().desired_packages == 1, "the desired content")
            await until(lambda: site.hellos, "a hello")
            assert (await site.ask("branch-1", "GET", "/v1/bus"))[0] == 200
            place.store.runs.start(Run(1, "pc-1", "52:54:00:00:00:01", 100.0))
            await until(lambda: site.runs(), "the run")
            place.events.note("maintenance.on", reason="test")
            await until(lambda: _has_statuses(site), "a status message")
            await site.publish(model, 4)
            await until(lambda: point.status().policy_version == 4, "a change, by the watch")
            assert point.status().counted["failures"] == 0
        place.close()
    assert "forbids" not in caplog.text


async def _has_statuses(site: SiteSide) -> bool:
    return bool(await site.statuses())


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (Subjects(SITE).ask("branch-2"), "asks another point"),
        (Subjects(SITE).notice, "speaks for the site"),
        (Subjects(SITE).status("branch-2"), "speaks for another point"),
        (Subjects(SITE).hello("branch-2"), "greets for another point"),
        (f"$KV.dpd_{SITE}_policy.head", "writes policy"),
        (f"$KV.dpd_{SITE}_desired.branch-2", "wants content elsewhere"),
        (f"$JS.API.STREAM.DELETE.KV_dpd_{SITE}_policy", "deletes"),
        (f"$JS.API.STREAM.PURGE.dpd_{SITE}_status", "purges"),
    ],
)
async def test_a_point_may_say_nothing_for_others(site: SiteSide, hub: NatsServer, credentials: dict[str, str], subject: str, why: str) -> None:  # fmt: skip
    async with _as_branch_1(hub, credentials) as link:
        await link.publish(subject, b"{}")
        await until(lambda: "the server forbids it" in link.last_error, why)


@pytest.mark.parametrize(
    "subject", [Subjects(SITE).ask("branch-2"), Subjects(SITE).status("*"), "_INBOX.>", f"_INBOX.dpd.{SITE}._site.>", ">"]
)  # fmt: skip
async def test_a_point_may_hear_nothing_of_others(hub: NatsServer, credentials: dict[str, str], subject: str) -> None:
    async with _as_branch_1(hub, credentials) as link:

        async def take(message: object) -> None:
            pass

        async with link.subscribed(subject, take):
            await until(lambda: "the server forbids it" in link.last_error, subject)


def _as_branch_1(hub: NatsServer, credentials: dict[str, str]) -> Any:
    return linked(hub.url, who="branch-1", site=SITE, user="branch-1", token_file=credentials["branch-1"])


async def test_a_leaf_nodes_points_are_kept_apart_by_the_leaf_node(tmp_path: Path, credentials: dict[str, str]) -> None:
    """The same lines, changed as documented."""
    text = authorization().replace("$KV.", "$JS.hub.API.$KV.")
    text = text.replace(f"dpd.{SITE}.status.", f"dpd.{SITE}.edge.").replace(
        '"$JS.FC.>"', '"$JS.FC.>", "$JS.API.STREAM.>"'
    )
    with (
        NatsServer(tmp_path / "nats", domain=HUB_DOMAIN) as hub,
        NatsServer(tmp_path / "nats", name="branch", domain="branch", leaf_of=hub.leaf_url, extra=text) as leaf,
    ):
        bus = BusSettings(
            url=leaf.url,
            site=SITE,
            point="branch-1",
            domain="branch",
            user="branch-1",
            token_file=credentials["branch-1"],
        )
        settings = Settings(
            daemon=DaemonSettings(state_dir=str(tmp_path)),
            control=ControlSettings(socket=str(tmp_path / "control.sock")),
        )
        async with SiteSide(hub.url, leaf_domains=("branch",)) as site:
            with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
                place = Place(settings, library, tmp_path)
                deployments = (Deployment(1, "all", "", Purpose.REQUIRED),)
                await site.publish(SiteModel(computers=MODEL.computers, deployments=deployments), 3)
                async with place.joined(bus) as point:
                    await until(lambda: point.status().policy_version == 3, "the policy")
                    assert (await site.ask("branch-1", "GET", "/v1/bus"))[0] == 200
                    place.store.runs.start(Run(1, "pc-1", "52:54:00:00:00:01", 100.0))
                    await until(lambda: site.runs(), "the run")
                    await until(lambda: _has_statuses(site), "a status message")
                    assert point.status().counted["failures"] == 0
                place.close()
