# SPDX-License-Identifier: Apache-2.0
"""The NATS settings that dpd ships: what nats-server says of them, and a site on them, with users and a leaf node."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.nats_server import free_port
from tests.site_server.at_work import at_work

from dpd.bus.connection import BusConnection
from dpd.bus.messages import Notice, encode
from dpd.bus.subjects import Subjects
from dpd.bus_settings import BusSettings
from dpd.control.bus.policy import PolicyFollower
from dpd.settings import Settings
from dpd.site.records import Computer
from dpd.site.store import SiteStore
from dpd.site_server.layout import ensure_layout
from dpd.site_server.publisher import Publisher

NATS = Path(__file__).parent.parent.parent / "config" / "nats"
PATIENCE_S = 30


@pytest.mark.parametrize("name", ["hub.conf", "leaf.conf"])
def test_nats_server_takes_them(name: str, need: Callable[..., None]) -> None:
    need("nats-server")
    run = subprocess.run(["nats-server", "-t", "-c", NATS / name], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """The shipped hub on loopback and free ports; its URL."""
    port = free_port()
    text = (NATS / "hub.conf").read_text()
    text = text.replace("0.0.0.0:4222", f"127.0.0.1:{port}").replace("0.0.0.0:7422", f"127.0.0.1:{free_port()}")
    text = text.replace("/var/lib/nats", str(folder / "store"))
    assert re.search(r"0\.0\.0\.0", text) is None
    (folder / "hub.conf").write_text(text)
    process = subprocess.Popen(
        [str(shutil.which("nats-server")), "-c", str(folder / "hub.conf")], stderr=subprocess.DEVNULL
    )
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


async def test_a_site_and_a_point_work_with_the_permissions_of_the_hub(
    tmp_path: Path, need: Callable[..., None]
) -> None:
    """The point mirrors the policy; in the name of the site, or of another point, it may say nothing."""
    need("nats-server")
    for user in ("site", "hq"):
        (tmp_path / user).write_text(f"CHANGE-ME-{user}")
        (tmp_path / user).chmod(0o600)
    with hub(tmp_path) as url:
        at_hub = {
            user: BusSettings(url=url, site="site", point="hq", user=user, token_file=str(tmp_path / user))
            for user in ("site", "hq")
        }
        store, held = SiteStore(), SiteStore()
        store.add_computer(Computer("PC-1", ("52:54:00:00:00:01",)), "test")
        publisher, follower = Publisher(store, "site"), PolicyFollower(held, "site")
        site, point = BusConnection(at_hub["site"], name="site"), BusConnection(at_hub["hq"], name="hq", who="hq")
        async with asyncio.timeout(3 * PATIENCE_S), at_work(site.run([])):
            await site.connected.wait()
            assert site.link is not None
            await ensure_layout(site.link, Settings(bus=at_hub["site"]))
            heard: list[str] = []

            async def hear(message) -> None:  # type: ignore[no-untyped-def]
                heard.append(message.subject)

            async with (
                at_work(publisher.publish(site.link)),
                at_work(point.run([follower.attend])),
                site.link.subscribed("dpd.site.>", hear),
            ):
                while "pc-1" not in held.computers.by_name:
                    await asyncio.sleep(0.05)
                assert point.link is not None
                await point.link.publish(Subjects("site").hello("other"), b"{}")
                await point.link.publish(Subjects("site").notice, encode(Notice(9, "", 0.0)))
                await point.link.publish(Subjects("site").hello("hq"), b"{}")
                while Subjects("site").hello("hq") not in heard:
                    await asyncio.sleep(0.05)
        assert Subjects("site").hello("other") not in heard
        store.close()
        held.close()
