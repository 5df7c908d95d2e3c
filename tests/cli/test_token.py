# SPDX-License-Identifier: Apache-2.0
"""`dpd token …`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Dpd

from dpd.cli.token import Role
from dpd.control.access.callers import Role as Known
from dpd.control.access.roles_file import read_roles


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dpd.toml"
    path.write_text(f"[control]\nroles_file = '{tmp_path}/roles.toml'\n")
    return path


def test_roles_are_those_of_the_api() -> None:
    assert [str(role) for role in Role] == [str(role) for role in Known]


def test_a_token_is_made_listed_and_taken_back(dpd: Dpd, config: Path, tmp_path: Path) -> None:
    made = dpd("token", "add", "site", "--role", "operator", "--config", config)
    assert made.code == 0
    token = made.out.strip()
    assert token.startswith("dpd_")
    assert made.err == f"site is operator by this token; it is shown this once, {tmp_path}/roles.toml has its hash\n"
    known = read_roles(tmp_path / "roles.toml").bearer(token)
    assert known is not None
    assert (known.name, known.role) == ("site", Known.OPERATOR)
    listed = dpd("token", "list", "--config", config)
    assert [line.split() for line in listed.out.splitlines()] == [
        ["KIND", "NAME", "ROLE"],
        ["token", "site", "operator"],
    ]
    assert token not in listed.out
    assert dpd("token", "list", "--config", config, "--json").json == [
        {"kind": "token", "name": "site", "role": "operator"}
    ]
    assert dpd("token", "remove", "site", "--config", config).out == "site: was operator, and is known no more\n"
    assert dpd("token", "list", "--config", config).out.startswith("Nobody is known by ")


def test_json_has_the_token_once(dpd: Dpd, config: Path, tmp_path: Path) -> None:
    made = dpd("token", "add", "page", "--config", config, "--json")
    assert made.err == ""
    assert made.json == {
        "name": "page",
        "role": "viewer",
        "token": made.json["token"],
        "file": f"{tmp_path}/roles.toml",
    }
    removed = dpd("token", "remove", "page", "--config", config, "--json").json
    assert removed == {"name": "page", "role": "viewer", "file": f"{tmp_path}/roles.toml"}


def test_a_file_may_be_named_in_place_of_the_settings(dpd: Dpd, tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    refused = dpd("token", "add", "x", "--config", empty)
    assert refused.code == 2
    assert 'control.roles_file = "": expected the path of a file to write' in refused.err
    assert dpd("token", "add", "x", "--config", empty, "--file", tmp_path / "mine.toml").code == 0
    again = dpd("token", "add", "x", "--config", empty, "--file", tmp_path / "mine.toml")
    assert (again.code, again.out) == (1, "")
    assert "there is a token of this name" in again.err


def test_a_role_that_there_is_not_is_refused(dpd: Dpd, config: Path) -> None:
    assert dpd("token", "add", "x", "--role", "root", "--config", config).code == 2
