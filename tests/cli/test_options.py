# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share: whoever talks to the daemon takes --socket, whoever prints takes --json."""

from __future__ import annotations

import pytest
from tests.cli.test_cli import COMMANDS

from dpd.cli.client import SITE_SOCKET
from dpd.cli.options import DEFAULT_SOCKET
from dpd.settings import ControlSettings

ALONE = (
    "serve",
    "check-config",
    "demo",
    "boot-file list",
    "boot-file check",
    "boot-file manifest",
    "bundle list",
    "pxe options",
    "site serve",
    "token add",
    "token list",
    "token remove",
)
EITHER = ("site plan", "site apply", "site export")  # the site server of this host, and where there is none the daemon
ALWAYS_JSON = ("bundle holdings",)  # a document for the other side
ASKING = [name for name in COMMANDS if name not in ALONE]  # the others work on files and settings


@pytest.mark.parametrize("name", ASKING)
def test_a_command_that_asks_the_daemon_finds_it_and_speaks_json(name: str) -> None:
    options = {option: parameter for parameter in COMMANDS[name].params for option in parameter.opts}
    asks_site = name.startswith(("point ", "site content ", "site status"))
    assert options["--socket"].envvar == ("DPD_SITE_SOCKET" if asks_site else "DPD_SOCKET")
    assert options["--socket"].default == (SITE_SOCKET if asks_site else "" if name in EITHER else DEFAULT_SOCKET)
    assert "--json" in options or name in ALWAYS_JSON


def test_the_socket_is_looked_for_where_the_daemon_puts_it() -> None:
    assert ControlSettings().socket == DEFAULT_SOCKET
