# SPDX-License-Identifier: Apache-2.0
"""Deployments under way at two points, asked of the site server by its API and by `dpd --site deploy`."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice

import pytest
from tests.site_process import LoopbackSite

from dpd.cli.client import RefusedByDaemon
from dpd.cli.events import server_sent


def dpd(site: LoopbackSite, *arguments: str) -> str:
    aimed = [sys.executable, "-m", "dpd", "--site", "--site-socket", site.server.control_socket, *arguments]
    run = subprocess.run(aimed, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_those_of_all_points_are_one_list(site: LoopbackSite) -> None:
    reply = site.client.get("executions")
    assert [(each["point"], each["computer"], each["state"]) for each in reply["executions"]] == [
        ("b1", "PC-2", "running"),
        ("b1", "PC-1", "done"),
        ("hq", "PC-1", "failed"),
    ]
    assert reply["unanswered"] == []
    assert [each["point"] for each in site.client.get("executions", machine="PC-1")["executions"]] == ["b1", "hq"]
    assert [each["point"] for each in site.client.get("executions", limit=1)["executions"]] == ["b1"]
    assert [each["computer"] for each in site.client.get("executions", state="open")["executions"]] == ["PC-2"]


def test_one_is_looked_at_where_it_is_and_stopped_there(site: LoopbackSite) -> None:
    failed = site.client.get("executions", state="failed")["executions"][0]
    shown = site.client.get("executions", failed["id"])
    assert (shown["execution"]["error"], len(shown["steps"])) == ("no EFI partition", 4)
    assert [each["number"] for each in site.client.get("executions", failed["id"], "reports")["reports"]] == [1, 2]
    with pytest.raises(RefusedByDaemon, match="left no log; a machine sends it when its sequence fails"):
        site.client.get("executions", failed["id"], "log")
    with pytest.raises(RefusedByDaemon) as ended:
        site.client.post("executions", failed["id"], "cancel", body={"reason": "x"})
    assert ended.value.code == "deployment_refused"
    with pytest.raises(RefusedByDaemon, match="no execution 00112233445566ff at the points that are here") as nowhere:
        site.client.get("executions", "00112233445566ff")
    assert nowhere.value.code == "execution_not_found"


def test_they_are_followed_together(site: LoopbackSite) -> None:
    events = server_sent(site.client.stream("executions", "stream"))
    first = list(islice(((kind, payload) for kind, _, payload in events if payload), 4))
    assert [kind for kind, _ in first] == ["execution"] * 3 + ["current"]
    assert [json.loads(payload)["point"] for _, payload in first[:3]] == ["hq", "b1", "b1"]


def test_the_command_names_the_point(site: LoopbackSite) -> None:
    lines = dpd(site, "deploy", "list").splitlines()
    assert "POINT" in lines[0].split()
    assert [line.split()[1:3] for line in lines[1:]] == [["PC-2", "b1"], ["PC-1", "b1"], ["PC-1", "hq"]]
    assert "by multicast" in dpd(site, "deploy", "show", "PC-2")
