# SPDX-License-Identifier: Apache-2.0
"""Tables as records: in the store's forms, and with words for what cannot be."""

from __future__ import annotations

import tomllib

import pytest

from dpd.site.declaration_records import (
    read_boundary,
    read_collection,
    read_computer,
    read_deployment,
    read_point,
    read_rule,
)
from dpd.site.declaration_tables import Problems, Table
from dpd.site.records import (
    ApprovalRule,
    Audience,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    Rerun,
    RuleKind,
)
from dpd.toml_lines import TomlLines

READERS = {
    "computer": read_computer,
    "collection": read_collection,
    "deployment": read_deployment,
    "boundary": read_boundary,
    "point": read_point,
    "rule": read_rule,
}


def read(kind: str, text: str) -> tuple[object, list[tuple[str, str]]]:
    """The record, and key and message of each problem."""
    text = f"[[{kind}]]\n{text}"
    problems = Problems(TomlLines(text))
    (table,) = Table(problems, (), tomllib.loads(text)).tables(kind)
    record = READERS[kind](table)
    table.finish()
    return record, [(each.key, each.message) for each in problems.found]


@pytest.mark.parametrize(
    ("kind", "text", "record"),
    [
        (
            "computer",
            'name = "PC-1"\nmacs = ["52-54-00-00-00-0A", "5254.0000.000b"]\nguid = "{4C4C4544-0044-3510-8052-B4C04F4E4D31}"\nboot_image = "LAB5"',
            Computer("PC-1", ("52:54:00:00:00:0a", "52:54:00:00:00:0b"), "4c4c4544-0044-3510-8052-b4c04f4e4d31", "LAB5"),
        ),
        (
            "collection",
            'name = "lab"\ncomputers = ["PC-1"]\ninclude = ["a"]\nexclude = ["b"]\ndescription = "room 12"\n'
            '[[collection.rules]]\nkind = "mac_prefix"\nvalue = "0015.5D"',
            Collection("lab", ("PC-1",), (MembershipRule(MemberKind.MAC_PREFIX, "00:15:5d"),), ("a",), ("b",), "room 12"),
        ),
        (
            "collection",
            'name = "lab"\nrules = [{ kind = "name", value = "LAB-*" }, { kind = "guid", value = "4C4C*" }]',
            Collection("lab", (), (MembershipRule(MemberKind.NAME, "LAB-*"), MembershipRule(MemberKind.GUID, "4c4c*"))),
        ),
        (
            "deployment",
            'name = "win"\ntarget = "Collection:lab"\nboot_image = "LAB5"\npurpose = "required"\npriority = 7\n'
            'available_from = 10\nexpires_at = 1970-01-01T00:00:20Z\naudience = "media_and_pxe"\nrerun = "if_failed"',
            Deployment(0, "collection:lab", "LAB5", Purpose.REQUIRED, 7, 10.0, 20.0, name="win", audience=Audience.MEDIA_AND_PXE, rerun=Rerun.IF_FAILED),
        ),
        ("deployment", 'name = "all"\ntarget = "ALL"\npurpose = "available"', Deployment(0, "all", "", Purpose.AVAILABLE, name="all")),
        ("boundary", 'network = "10.1.0.0/16"\npoints = ["b", "a"]', Boundary("10.1.0.0/16", ("b", "a"))),
        (
            "point",
            'name = "b1"\ngroups = ["north"]\nurl = "http://b1.example:8080/"\ndescription = "x"',
            Point("b1", ("north",), "http://b1.example:8080", "x"),
        ),
        ("rule", 'kind = "mac_prefix"\nvalue = "00-15-5D"', ApprovalRule(0, RuleKind.MAC_PREFIX, "00:15:5d")),
    ],
)  # fmt: skip
def test_a_table_is_a_record_in_its_normal_form(kind: str, text: str, record: object) -> None:
    assert read(kind, text) == (record, [])


@pytest.mark.parametrize(
    ("kind", "text", "key", "message"),
    [
        ("computer", 'name = "PC 1"\nmacs = ["52:54:00:00:00:0a"]', "computer.name", "name 'PC 1': expected 1 to 63 of A-Z"),
        ("computer", 'name = "PC-1"', "computer", "expected macs or a guid to know the computer by"),
        ("computer", 'name = "PC-1"\nmacs = ["52:54"]', "computer.macs", "mac '52:54': expected six bytes such as 52:54:00:12:34:56"),
        ("computer", 'name = "PC-1"\nguid = "x"', "computer.guid", "guid 'x': expected such as 4c4c4544"),
        ("computer", f'name = "PC-1"\nmacs = ["52:54:00:00:00:0a"]\nboot_image = "{"x" * 65}"', "computer.boot_image", "expected the id of a boot image, of at most 64"),
        ("collection", 'name = "all"', "collection.name", "name 'all': expected"),
        ("collection", 'name = "lab"\nrules = [{ kind = "mac", value = "x" }]', "collection.rules.kind", '"mac": expected one of "name", "mac_prefix", "guid"'),
        ("collection", 'name = "lab"\nrules = [{ kind = "mac_prefix", value = "x" }]', "collection.rules.value", "mac 'x': expected one to six bytes"),
        ("collection", 'name = "lab"\nrules = [{ kind = "name", value = "x", y = 1 }]', "collection.rules.y", "unknown key; expected one of kind, value"),
        ("collection", 'name = "lab"\ndescription = "a\\nb"', "collection.description", "expected one line of at most 400 characters"),
        ("deployment", 'target = "PC 1"\npurpose = "required"', "deployment.target", '"PC 1": expected a computer\'s name, "collection:NAME", "all" or "unknown"'),
        ("deployment", 'target = "collection:"\npurpose = "required"', "deployment.target", '"collection:": expected'),
        ("deployment", 'target = "all"\npurpose = "required"\npriority = 1001', "deployment.priority", "1001: expected a whole number from -1000 to 1000"),
        ("deployment", 'target = "all"\npurpose = "required"\navailable_from = 9\nexpires_at = 9', "deployment.expires_at", "expected a moment after available_from"),
        ("boundary", 'network = "10.1.0.1/16"\npoints = ["a"]', "boundary.network", "network '10.1.0.1/16': expected such as 10.1.0.0/16"),
        ("boundary", 'network = "10.1.0.0/16"', "boundary", "expected at least one distribution point in points, the best first"),
        ("point", 'name = "b.1"', "point", "point 'b.1': expected 1 to 63 of A-Z a-z 0-9 _ -"),
        ("point", 'name = "curl"\nurl = "http://user:secret@b1"', "point.url", "without a user, a password or a query"),
        ("rule", 'kind = "circuit"\nvalue = "xyz"', "rule.value", "circuit 'xyz': expected option 82's circuit id in hex"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_key(kind: str, text: str, key: str, message: str) -> None:
    _, problems = read(kind, text)
    ((told_key, told),) = problems
    assert told_key == key
    assert message in told
    assert "secret" not in told
