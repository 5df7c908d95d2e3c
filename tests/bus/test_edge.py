# SPDX-License-Identifier: Apache-2.0
"""What a leaf node keeps for its points: real servers, the line between them cut and mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bus.conftest import linked
from tests.bus.site_side import SITE, SiteSide, until
from tests.nats_server import HUB_DOMAIN, NatsServer, needs_nats

from dpd.bus.edge import ensure_edge
from dpd.bus.link import Link
from dpd.bus.messages import StatusReport, encode
from dpd.bus.subjects import POLICY_HEAD, Subjects
from dpd.site.model import SiteModel

pytestmark = needs_nats

SUBJECTS = Subjects(SITE)


def report(sequence: int) -> StatusReport:
    return StatusReport("p1", "cafe", sequence, 1.0, "job.done", 2005, "info", {})


async def held(link: Link) -> int:
    """How many entries the leaf's mirror of the policy has."""
    return int((await link.jetstream.stream_info(f"KV_{SUBJECTS.policy_bucket}")).state.messages)


async def test_a_branch_reads_and_stores_while_the_hub_is_away_and_loses_nothing(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path, domain=HUB_DOMAIN) as hub,
        NatsServer(tmp_path, name="branch", domain="branch", leaf_of=hub.leaf_url) as leaf,
    ):
        async with (
            SiteSide(hub.url, leaf_domains=("branch",)) as site,
            linked(leaf.url, domain="branch") as one,
            linked(leaf.url, domain="branch") as other,
        ):
            await site.publish(SiteModel(), 1)
            await asyncio.gather(ensure_edge(one, SUBJECTS, HUB_DOMAIN), ensure_edge(other, SUBJECTS, HUB_DOMAIN))
            await ensure_edge(one, SUBJECTS, HUB_DOMAIN)
            await until(lambda: held(one), "the mirror")
            for sequence in (1, 2):
                await one.store(SUBJECTS.status("p1", behind_leaf=True), encode(report(sequence)), f"cafe-{sequence}")
            hub.kill()
            assert (await (await one.bucket(SUBJECTS.policy_bucket)).get(POLICY_HEAD)).value
            for sequence in (2, 3, 4):
                await one.store(SUBJECTS.status("p1", behind_leaf=True), encode(report(sequence)), f"cafe-{sequence}")
            hub.start()
            await until(lambda: _all_there(site), "all at the hub")
            assert [each.sequence for each in await site.statuses()] == [1, 2, 3, 4]


async def _all_there(site: SiteSide) -> bool:
    return len(await site.statuses()) >= 4
