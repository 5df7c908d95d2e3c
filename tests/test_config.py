# SPDX-License-Identifier: Apache-2.0
"""The settings files that dpd ships: the reference equals the defaults and leaves no key out."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from dpd.setting_rules import split_endpoint
from dpd.settings import Settings, load_settings

CONFIG = Path(__file__).parent.parent / "config"
REFERENCE = CONFIG / "dpd.toml"
SETTINGS_FILES = sorted(set(CONFIG.glob("*.toml")) - {CONFIG / "site.example.toml"})  # that one is a declaration


def keys_of(table: Any) -> list[str]:
    return [key.name for key in fields(table)]


def documented() -> dict[str, tuple[str, str]]:
    """Each scalar key of the reference: the comment above it and the value, by dotted name."""
    found, table, comment = {}, "", ""
    for line in REFERENCE.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            table = header[1]
        elif line.startswith("[["):
            table = ""
        elif table and (assignment := re.fullmatch(r"(\w+) = (.*)", line)):
            found[f"{table}.{assignment[1]}"] = (comment, assignment[2])
        comment = line if line.startswith("# ") else ""
    return found


def test_the_reference_equals_the_defaults() -> None:
    assert replace(load_settings(REFERENCE), path="") == Settings()


def test_the_reference_lists_every_key_and_nothing_else_in_the_order_of_the_code() -> None:
    document = tomllib.loads(REFERENCE.read_text())
    settings = Settings()
    expected = {t.name: keys_of(getattr(settings, t.name)) for t in fields(Settings) if t.name != "path"}
    assert {name: list(table) for name, table in document.items()} == expected
    for rule in document["pxe"]["rule"]:
        assert list(rule) == keys_of(settings.pxe.rule[0])


def test_every_key_of_the_reference_is_explained_on_one_line_that_says_when_it_takes_effect() -> None:
    explained = documented()
    for table in fields(Settings):
        if table.name == "path":
            continue
        for key in fields(getattr(Settings(), table.name)):
            if f"{table.name}.{key.name}" == "pxe.rule":
                continue
            comment, _ = explained[f"{table.name}.{key.name}"]
            ending = "." if key.metadata["live"] else ". (restart)"
            assert comment.endswith(ending), f"{table.name}.{key.name}: {comment!r}"


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=lambda p: p.name)
def test_every_shipped_file_loads(path: Path) -> None:
    assert load_settings(path).path == str(path)


def test_the_developers_file_stays_on_this_machine_and_needs_no_privilege() -> None:
    settings = load_settings(CONFIG / "dpd.dev.toml")
    listens = [settings.pxe.listen, settings.tftp.listen, settings.http.listen]
    assert listens == ["127.0.0.1"] * 3
    assert split_endpoint(settings.metrics.listen)[0] == "127.0.0.1"
    ports = [settings.pxe.port, settings.pxe.boot_port, settings.tftp.port, settings.http.port]
    assert min(ports) >= 1024
    assert (settings.multicast.interface, settings.multicast.ttl) == ("lo", 0)
