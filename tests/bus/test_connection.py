# SPDX-License-Identifier: Apache-2.0
"""The connection to a real nats-server that comes and goes."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.bus.site_side import until
from tests.nats_server import NatsServer, free_port, needs_nats

from dpd.bus import connection as connecting
from dpd.bus import link as linking
from dpd.bus.connection import BusConnection, Work, explain
from dpd.bus.link import Link
from dpd.bus_settings import BusSettings
from dpd.errors import BusError, SettingsError

pytestmark = needs_nats


@asynccontextmanager
async def running(connection: BusConnection, works: Sequence[Work] = ()) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(connection.run(works))
        yield
        task.cancel()


async def connected(connection: BusConnection) -> Link:
    async with asyncio.timeout(30):
        await connection.connected.wait()
    assert connection.link is not None
    return connection.link


async def test_work_begins_on_each_link_and_ends_with_it(hub: NatsServer) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    connection = BusConnection(
        BusSettings(url=hub.url), name="test", tell=lambda event, **fields: told.append((event, fields))
    )
    begun: list[Link] = []
    ended: list[Link] = []

    async def work(link: Link) -> None:
        begun.append(link)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(link)

    async with running(connection, [work]):
        first = await connected(connection)
        await until(lambda: begun == [first], "the work on the first link")
        hub.kill()
        await until(lambda: ended == [first], "the end of the work")
        await until(lambda: connection.link is None and connection.trouble, "the loss")
        hub.start()
        second = await connected(connection)
        await until(lambda: begun == [first, second], "the work on the second link")
    assert ended == [first, second]
    assert connection.stats.connections == 2
    assert [event for event, _ in told] == ["bus.connected", "bus.lost", "bus.connected"]


async def test_a_server_that_comes_late_is_found_and_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    hub = NatsServer(tmp_path, port=free_port())
    connection = BusConnection(BusSettings(url=hub.url), name="test")
    with caplog.at_level(logging.WARNING, "dpd.bus.connection"):
        async with running(connection):
            await until(lambda: connection.trouble != "not connected yet", "a first failure")
            await asyncio.sleep(1.2)  # some more tries, which are not told
            with hub:
                await connected(connection)
    assert [record.getMessage() for record in caplog.records] == [
        "no connection to the bus; dpd serves on and keeps trying"
    ]


async def test_work_that_fails_begins_again_and_the_others_go_on(hub: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    monkeypatch.setattr(connecting, "WORK_PAUSE_S", 0.01)
    tries: list[int] = []
    cancelled: list[Link] = []

    async def failing(link: Link) -> None:
        tries.append(len(tries))
        if len(tries) < 4:
            raise BusError("the bucket is not there yet")

    async def steady(link: Link) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(link)
            raise

    connection = BusConnection(BusSettings(url=hub.url), name="test")
    async with running(connection, [failing, steady]):
        await until(lambda: len(tries) == 4, "three failures and a success")
        assert not cancelled
    assert connection.stats.failures == 3
    told = [record for record in caplog.records if "failed" in record.getMessage()]
    assert len(told) == 1
    assert told[0].cause == "the bucket is not there yet"  # type: ignore[attr-defined]


async def test_a_wrong_token_is_told_and_a_right_one_counts_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    token = tmp_path / "token"
    token.write_text("wrong-token-0123456789\n")
    token.chmod(0o600)
    with NatsServer(tmp_path, extra='authorization { token: "right-token-0123456789" }') as hub:
        connection = BusConnection(BusSettings(url=hub.url, token_file=str(token)), name="test")
        async with running(connection):
            await until(lambda: "refuses dpd's credentials" in connection.trouble, "the refusal")
            token.write_text("right-token-0123456789\n")
            await connected(connection)
    assert "token-0123456789" not in caplog.text


def test_without_nats_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r'needs nats-py, which is not installed; `pip install "dpd\[bus\]"`'):
        BusConnection(BusSettings(url="nats://127.0.0.1:4222"), name="test")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception("nats: 'Authorization Violation'"), "the server refuses dpd's credentials"),
        (Exception('nats: permissions violation for publish to "x"'), "the server forbids it"),
        (Exception("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get"), "bus.ca_file names"),
        (Exception("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"), "bus.certificate"),
        (TimeoutError(), "does not answer in time"),
        (ConnectionRefusedError(111, "Connect call failed"), "Connect call failed"),
        (ExceptionGroup("many", [ValueError("one\nof them")]), "one of them"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_failure_is_told_in_one_line(error: Exception, words: str) -> None:
    assert words in explain(error)
    assert "\n" not in explain(error)


async def test_what_the_server_forbids_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    """nats-py itself only says that no answer came."""
    monkeypatch.setattr(linking, "ACK_TIMEOUT_S", 0.5)
    token = tmp_path / "password"
    token.write_text("password-0123456789")
    token.chmod(0o600)
    users = '{ user: p, password: "password-0123456789", permissions: { publish: ["a"], subscribe: [">"] } }'

    async def work(link: Link) -> None:
        await link.bucket("secret")

    with NatsServer(tmp_path, extra=f"authorization {{ users: [{users}] }}") as hub:
        connection = BusConnection(BusSettings(url=hub.url, user="p", token_file=str(token)), name="test")
        async with running(connection, [work]):
            await until(lambda: connection.stats.failures, "the failure")
    (record,) = [record for record in caplog.records if "work on the bus failed" in record.getMessage()]
    assert "the server forbids it" in record.cause  # type: ignore[attr-defined]
    assert "$js.api.stream.info.kv_secret" in record.cause  # type: ignore[attr-defined]


async def test_a_line_that_swallows_everything_is_noticed_by_pings(hub: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(connecting, "PING_INTERVAL_S", 0.2)
    connection = BusConnection(BusSettings(url=hub.url), name="test")
    async with running(connection):
        first = await connected(connection)
        hub.pause()
        await until(first.broken.is_set, "the loss")
        hub.go_on()
        await until(lambda: connection.link not in (None, first), "the next link")
