# SPDX-License-Identifier: Apache-2.0
"""`dpd mc-test` against a real probe service on loopback, and what it makes of answers that are none."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.target.canned import serving

from dpd.content.boot_files import BootFiles
from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.boot_tree import BootTree
from dpd.service.diagnosis.probe import ProbeService
from dpd.service.http.server import HttpService
from dpd.settings import HttpSettings, MulticastSettings
from dpd.target.network_test.diagnosis import Finding, Verdict
from dpd.target.network_test.mc_test import EXIT_FIT, EXIT_UNFIT, EXIT_UNREACHABLE, Screen, main, table
from dpd.telemetry.journal import BootJournal

SETTINGS = MulticastSettings(interface="lo", ttl=0, group_range="239.192.80.0/24")


@pytest_asyncio.fixture
async def point(tmp_path: Path) -> AsyncIterator[tuple[str, ProbeService]]:
    """URL and probe service of a distribution point that has nothing else."""
    probe = ProbeService(SETTINGS)
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        http = HttpService(
            HttpSettings(listen="127.0.0.1", port=0),
            library=library,
            boot_tree=BootTree(BootFiles(tmp_path / "boot"), BootJournal()),
            multicast=None,
            journal=BootJournal(),
            probe=probe,
        )
        await http.start()
        yield f"http://127.0.0.1:{http.ports['http']}", probe
        await http.stop()
        await probe.stop()


async def test_loopback_is_fit_and_the_numbers_are_there(
    point: tuple[str, ProbeService], capsys: pytest.CaptureFixture[str]
) -> None:
    url, probe = point
    status = await asyncio.to_thread(main, [url, "--minutes", "0.1", "--json"])
    *events, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (status, last["event"], last["fit"]) == (EXIT_FIT, "result", True), last
    measured = last["measured"]
    assert measured["interface"] == "lo"
    assert measured["received"]["paced"] + measured["socket_drops"] >= measured["sent"]["paced"] == 2000
    assert measured["packet_bytes"][-1] == 9000
    assert measured["ttl"] == {"sent": 0, "arrived": []}  # 0 stays in the machine and cannot be told from not known
    assert measured["passes"] == {"now": True, "after 6 s": True}
    assert {event["event"] for event in events} == {"testing", "progress"}
    assert (probe.stats.tests, probe.stats.running, probe.stats.verdicts) == (1, 0, {"fit": 1})


async def test_a_person_gets_a_table(point: tuple[str, ProbeService], capsys: pytest.CaptureFixture[str]) -> None:
    url, _ = point
    assert await asyncio.to_thread(main, [url, "--minutes", "0.1", "--interface", "lo"]) == EXIT_FIT
    shown = capsys.readouterr()
    assert "passes      OK       now: yes, after 6 s: yes\n" in shown.out
    assert shown.out.endswith("\nThis network is fit for multicast.\n")
    assert shown.err == ""


async def test_a_daemon_that_drains_is_told(
    point: tuple[str, ProbeService], capsys: pytest.CaptureFixture[str]
) -> None:
    url, probe = point
    await probe.drain()
    assert await asyncio.to_thread(main, [url]) == EXIT_UNFIT
    assert "shutting down" in capsys.readouterr().out


def test_nobody_at_the_address_exits_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1", "--json"]) == EXIT_UNREACHABLE
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert event["event"] == "failed"
    assert "is dpd running there" in event["reason"]


@pytest.mark.parametrize(
    ("status", "body", "exit_code", "reason"),
    [
        (404, {"error": {"message": "no such file"}}, EXIT_UNREACHABLE, "is it an older dpd?"),
        (200, b"hello", EXIT_UNFIT, "is this a distribution point?"),
        (200, {"test": "zz"}, EXIT_UNFIT, "cannot be read"),
        (200, {"test": "1", "group": "10.0.0.1", "port": 1, "sender": "127.0.0.1", "feedback_port": 1}, EXIT_UNFIT, "no multicast group"),
        (409, {"error": {"message": "multicast is off here"}}, EXIT_UNFIT, "multicast is off here"),
    ],
)  # fmt: skip
def test_answers_that_are_none(
    status: int, body: Any, exit_code: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        server.answer(status, body)
        assert main([server.url, "--json"]) == exit_code
    assert reason in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize("minutes", ["0", "10", "x"])
def test_wrong_usage_exits_with_2(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["http://127.0.0.1:1", "--minutes", minutes])
    assert caught.value.code == 2
    assert "--minutes" in capsys.readouterr().err


def test_an_unknown_interface_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1", "--interface", "nope0"]) == EXIT_UNFIT
    assert "interface nope0: no such interface" in capsys.readouterr().out


FINDINGS = [
    Finding("passes", Verdict.BAD, "nothing", "a firewall", "let it in"),
    Finding("mtu", Verdict.OK, "1500"),
]


def test_cause_and_remedy_stand_below_their_line() -> None:
    assert table(FINDINGS).splitlines() == [
        "passes  BAD      nothing",
        "                 cause: a firewall",
        "                 remedy: let it in",
        "mtu     OK       1500",
    ]


def test_programs_get_the_same_as_json() -> None:
    out = io.StringIO()
    Screen(as_json=True, out=out).result(FINDINGS, {"interface": "eth0"})
    result = json.loads(out.getvalue())
    assert (result["fit"], result["measured"]) == (False, {"interface": "eth0"})
    assert result["findings"][0] == {
        "check": "passes",
        "verdict": "bad",
        "found": "nothing",
        "cause": "a firewall",
        "remedy": "let it in",
    }
