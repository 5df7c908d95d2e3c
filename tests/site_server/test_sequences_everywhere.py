# SPDX-License-Identifier: Apache-2.0
"""A task sequence that is published once at the site server, by real processes on a real bus."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.nats_server import NATS_SERVER, NatsServer
from tests.site_process import LoopbackSite, PointProcess, SiteServerProcess

from dpd.cli.client import Client, RefusedByDaemon
from dpd.sequence.signed import read_signed

TOML = "application/toml"


def text(command: str = "true", name: str = "debian") -> str:
    return f'name = "{name}"\n[[step]]\nname = "Command"\ndo = "run_command_line"\ncommand = "{command}"\n'


def publish(client: Client, document: str) -> str:
    version = client.post_text("sequences", text=document.encode(), content_type=TOML)["version"]
    return f"{version['name']}@{version['version']}"


def newest(client: Client) -> list[str]:
    return [f"{each['name']}@{each['version']}" for each in client.get("sequences")["sequences"]]


def written(client: Client) -> Any:
    return client.get("sequences", "debian", "text")


def wait_newest(site: LoopbackSite, wanted: list[str]) -> None:
    site.until(f"{wanted} everywhere", lambda: all(newest(site.directly(name)) == wanted for name in site.points))


def told(site: LoopbackSite) -> list[tuple[str, int]]:
    """What the site server itself said of sequences."""
    messages = site.client.get("messages", after="0", limit=1000)["messages"]
    own = [each for each in messages if each["event"].startswith("sequence.") and each["fields"].get("point") != "hq"]
    return [(each["event"], each["fields"]["version"]) for each in own]


def test_it_is_at_every_point_also_at_one_that_was_away_and_one_that_comes_later(tmp_path: Path) -> None:
    if NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with ExitStack() as stack:
        nats = stack.enter_context(NatsServer(tmp_path / "nats"))
        server = stack.enter_context(SiteServerProcess(tmp_path / "site", nats.url).ready())
        with PointProcess(tmp_path / "hq", nats.url, "hq").ready() as hq:
            site = LoopbackSite(nats, server, {"hq": hq})
            site.wait_present()
            assert (
                publish(site.directly("hq"), text(name="own")) == "own@1"
            )  # its policy is its own until the site speaks
            with pytest.raises(RefusedByDaemon, match=r"line 4: step 1 \(Command\): do: "):
                publish(site.client, text().replace("run_command_line", "run"))
            assert publish(site.client, text()) == "debian@1"
            wait_newest(site, ["debian@1"])
            for refused in (text(), text("other")):
                with pytest.raises(RefusedByDaemon, match="policy of this point comes from site lab") as error:
                    publish(site.directly("hq"), refused)
                assert error.value.code == "site_conflict"
            deployment = {"target": "all", "purpose": "available", "sequence": "debian@9"}
            with pytest.raises(RefusedByDaemon, match="no task sequence debian@9"):
                site.client.post("deployments", body=deployment)
            site.client.post("deployments", body=deployment | {"sequence": "debian@1"})
            with pytest.raises(RefusedByDaemon, match="debian@1 is deployed by deployment 1"):
                site.client.delete("sequences", "debian", version=1)
            site.client.delete("deployments", "1")
            hq.process.kill()
        declared = f"[[sequence]]\nname = 'debian'\nversion = 2\ntext = '''\n{text('declared')}'''\n".encode()
        plan = site.client.post_text("site", "plan", text=declared, content_type=TOML)
        assert [(each["action"], each["name"]) for each in plan["changes"]] == [("added", "debian@2"), ("removed", "debian@1")]  # fmt: skip
        site.client.post_text("site", "apply", text=declared, content_type=TOML, policy_version=plan["policy_version"])
        site.points = {
            name: stack.enter_context(PointProcess(tmp_path / name, nats.url, name).ready()) for name in ("hq", "b1")
        }
        wait_newest(site, ["debian@2"])
        at = [written(site.directly(name)) for name in site.points]
        assert [(each["version"], each["text"]) for each in at] == [(2, text("declared"))] * 2
        signers = [read_signed(each["document"], None)[1] for each in at]
        assert signers[0] != signers[1]  # each by its own key
        assert written(site.client)["document"] == ""
        site.client.delete("sequences", "debian")
        wait_newest(site, [])
        assert publish(site.client, text()) == "debian@3"
        site.until("what was done is told", lambda: ("sequence.published", 3) in told(site))
        assert told(site)[:2] == [("sequence.published", 1), ("sequence.removed", 2)]
