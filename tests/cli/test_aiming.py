# SPDX-License-Identifier: Apache-2.0
"""--dp, --group and --site: whom a command asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dpd
from tests.nats_server import NATS_SERVER
from tests.site_process import LoopbackSite, loopback_site

from dpd.cli.aiming import AimRefused, GroupAsked, aim
from dpd.cli.client import AIM, Aim


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSite]:
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with loopback_site(tmp_path_factory.mktemp("site"), "hq", "b1") as site:
        site.client.post("points", body={"name": "b1", "groups": ["branches"]})
        site.client.post("points", body={"name": "never", "groups": ["branches"]})
        site.wait_followed()
        yield site


@pytest.fixture
def at_site(site: LoopbackSite, dpd: Dpd, monkeypatch: pytest.MonkeyPatch) -> Dpd:
    """The command line at the site server's host."""
    monkeypatch.setenv("DPD_SITE_SOCKET", site.server.control_socket)
    return dpd


@pytest.fixture
def nobody_aimed() -> Iterator[None]:
    token = AIM.set(None)
    yield
    AIM.reset(token)


@pytest.mark.usefixtures("nobody_aimed")
def test_the_options_say_whom_the_clients_of_a_run_ask() -> None:
    aim("status", "", "", site=False, site_socket="/s")
    assert AIM.get() is None
    aim("status", "hq", "", site=False, site_socket="/s")
    assert AIM.get() == Aim("/s", "hq")
    AIM.set(None)
    aim("status", "", "", site=True, site_socket="/s")
    assert AIM.get() == Aim("/s")
    AIM.set(None)
    with pytest.raises(GroupAsked):
        aim("status", "", "all", site=False, site_socket="/s")


@pytest.mark.usefixtures("nobody_aimed")
def test_two_of_them_and_commands_that_ask_nobody_are_refused() -> None:
    with pytest.raises(AimRefused, match="--dp and --group: expected at most one"):
        aim("status", "hq", "all", site=False, site_socket="/s")
    with pytest.raises(AimRefused, match="`dpd serve` runs on this host alone"):
        aim("serve", "hq", "", site=False, site_socket="/s")


def test_a_site_server_that_does_not_run_is_told(dpd: Dpd, tmp_path: Path) -> None:
    ended = dpd("--dp", "hq", "--site-socket", tmp_path / "none", "status")
    assert ended.code == 1
    assert ended.err.startswith("dpd: the site server does not run: no socket")
    assert "systemctl start dpd-site" in ended.err


def test_a_command_asks_a_point_through_the_site_server(at_site: Dpd, site: LoopbackSite) -> None:
    ended = at_site("--dp", "hq", "status", "--json")
    assert ended.json["pid"] == site.directly("hq").get("status")["pid"]
    assert (
        at_site("--dp", "hq", "computer", "list").out
        == "No computer is known; `dpd computer add NAME --mac MAC` adds one, `dpd computer import FILE.csv` many.\n"
    )


def test_the_site_server_itself_is_asked_with_site(at_site: Dpd) -> None:
    ended = at_site("--site", "status")
    assert "connected to" in ended.out
    assert at_site("--site", "status", "--json").json["role"] == "site"


def test_what_points_alone_can_tell_is_told_with_how_to_ask_them(at_site: Dpd) -> None:
    ended = at_site("--site", "deploy", "captures")
    assert (ended.code, "not with the site server; `dpd --dp NAME …` asks one" in ended.err) == (1, True)


def test_a_group_shows_its_points_one_after_the_other_and_who_is_away(at_site: Dpd) -> None:
    ended = at_site("--group", "branches", "session", "list")
    assert ended.code == 1
    assert ended.out.splitlines()[0] == "b1:"
    assert "never:" in ended.out.splitlines()
    assert ended.err.startswith("never: dpd: distribution point never has not been heard yet")


def test_a_group_as_json_is_one_document(at_site: Dpd) -> None:
    ended = at_site("--group", "branches", "session", "list", "--json")
    first, second = ended.json["points"]
    assert first == {"point": "b1", "ok": True, "reply": {"sessions": []}}
    assert (second["point"], second["ok"]) == ("never", False)
    assert "has not been heard yet" in second["error"]


def test_a_group_that_nobody_knows_and_an_endless_command_are_refused(at_site: Dpd) -> None:
    assert "no group south" in at_site("--group", "south", "status").err
    assert "--follow: no end" in at_site("--group", "all", "events", "--follow").err
    assert at_site("--group", "all", "session", "list").code == 1  # one of them is away


def test_a_command_of_the_site_server_is_not_asked_of_a_point(at_site: Dpd) -> None:
    assert "this command asks the site server; leave --dp out" in at_site("--dp", "hq", "point", "list").err
