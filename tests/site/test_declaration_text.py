# SPDX-License-Identifier: Apache-2.0
"""The text of a declaration: one form for each site, and what is read back is the site."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.site.site_models import site_models

from dpd.site.declaration import Kind, read_declaration, records_of
from dpd.site.declaration_text import document_text, moment, text, write_declaration
from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.model_plan import plan_model
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
    Variable,
)
from dpd.site.sequences import SequenceVersion

SITE = SiteModel(
    computers=(Computer("PC-1", ("52:54:00:00:00:0a",), "4c4c4544-0044-3510-8052-b4c04f4e4d31", "LAB5", 9.0),),
    collections=(
        Collection("lab", ("PC-1",), (MembershipRule(MemberKind.NAME, 'LAB-"*"'),), description="room 12"),
        Collection("many", tuple(f"PC-{number}" for number in range(20)), include=("lab",)),
    ),
    deployments=(
        Deployment(3, "collection:lab", "", Purpose.REQUIRED, 5, 1795287600.0, 1e12, 8.0, "win", Audience.HIDDEN, Rerun.ALWAYS),
        Deployment(4, "all", "LAB5", Purpose.AVAILABLE, sequence="debian@3"),
    ),
    boundaries=(Boundary("10.1.0.0/16", ("branch", "hq")),),
    points=(Point("branch", ("north", "small"), "http://branch.example:8080"),),
    rules=(ApprovalRule(2, RuleKind.CIRCUIT, "0102", 7.0),),
    maintenance="new switch",
    variables=(Variable("all", "Zone", 'a "b"'), Variable("PC-1", "Pass", "hunter2", secret=True)),
    sequences=(SequenceVersion("debian", 3, "", 1, 9.0, "anna", 'name = "debian"\n# \\ stays\n'),),
)  # fmt: skip

TEXT = """\
owns = ["computer", "collection", "deployment", "boundary", "point", "rule", "variable", "sequence"]
maintenance = "new switch"

[[computer]]
name = "PC-1"
macs = ["52:54:00:00:00:0a"]
guid = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
boot_image = "LAB5"

[[collection]]
name = "lab"
description = "room 12"
computers = ["PC-1"]
rules = [{ kind = "name", value = "LAB-\\"*\\"" }]

[[collection]]
name = "many"
computers = [
"""


def test_a_site_is_written_in_one_form() -> None:
    written = write_declaration(SITE)
    assert written.startswith(TEXT)
    assert written.endswith("""
  "PC-19",
]
include = ["lab"]

[[deployment]]
name = "win"
target = "collection:lab"
purpose = "required"
priority = 5
available_from = 2026-11-21T19:00:00Z
expires_at = 1000000000000.0
audience = "media_and_pxe_hidden"
rerun = "always"

[[deployment]]
target = "all"
boot_image = "LAB5"
purpose = "available"
sequence = "debian@3"

[[boundary]]
network = "10.1.0.0/16"
points = ["branch", "hq"]

[[point]]
name = "branch"
groups = ["north", "small"]
url = "http://branch.example:8080"

[[rule]]
kind = "circuit"
value = "0102"

[[variable]]
target = "all"
name = "Zone"
value = "a \\"b\\""

[[variable]]
target = "PC-1"
name = "Pass"
secret = true

[[sequence]]
name = "debian"
version = 3
text = '''
name = "debian"
# \\ stays
'''
""")


def test_what_is_secret_is_in_no_export() -> None:
    assert "hunter2" not in write_declaration(SITE)


def test_some_kinds_alone_speak_of_these_alone() -> None:
    written = write_declaration(SITE, [Kind.RULE, Kind.POINT])
    assert written.splitlines()[:3] == ['owns = ["point", "rule"]', "", "[[point]]"]
    read = read_declaration(written)
    assert (set(read.said), read.maintenance) == ({Kind.POINT, Kind.RULE}, None)


def test_a_site_without_maintenance_says_nothing_of_it() -> None:
    """A file that is kept must not end a maintenance that begins later."""
    assert "maintenance" not in write_declaration(SiteModel())
    assert read_declaration(write_declaration(SiteModel())).maintenance is None


def _bare(model: SiteModel) -> SiteModel:
    """Without what only the store knows: numbers and when things came."""
    parts = {
        "sequences": tuple(replace(each, published_at=0.0, actor="") for each in model.sequences),
        "computers": tuple(replace(each, added_at=0.0) for each in model.computers),
        "collections": tuple(replace(each, added_at=0.0) for each in model.collections),
        "deployments": tuple(replace(each, id=0, added_at=0.0) for each in model.deployments),
        "rules": tuple(replace(each, id=0, added_at=0.0) for each in model.rules),
    }
    return normal_model(replace(model, affinity_mode=SiteModel().affinity_mode, **parts))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(site_models())
def test_what_is_exported_is_read_as_it_was_and_exported_the_same(model: SiteModel) -> None:
    written = write_declaration(model)
    read = read_declaration(written)
    assert read.problems == ()
    again = plan_model(SiteModel(), read, lambda image: True).model
    assert again == _bare(model)
    assert write_declaration(again) == written


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(site_models())
def test_what_is_exported_changes_nothing_where_it_comes_from(model: SiteModel) -> None:
    plan = plan_model(model, read_declaration(write_declaration(model)), lambda image: False)
    assert (plan.changes, plan.problems, plan.model) == ((), (), model)
    assert plan.unchanged == sum(len(records_of(model, kind)) for kind in Kind)


def _tables(written: str) -> list[str]:
    """In any order: deployments and rules that were there before keep their numbers, and stand first."""
    return sorted(written.rstrip("\n").split("\n\n"))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(site_models(), site_models())
def test_an_export_makes_any_other_site_the_same(model: SiteModel, other: SiteModel) -> None:
    written = write_declaration(model)
    plan = plan_model(replace(other, maintenance=model.maintenance), read_declaration(written), lambda image: True)
    assert plan.problems == ()
    assert _tables(write_declaration(plan.model)) == _tables(written)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_written_so_that_it_is_read_as_it_was(value: str) -> None:
    assert tomllib.loads(f"x = {text(value)}") == {"x": value}


@given(st.text(st.characters(codec="utf-8")) | st.text("'\"\\\r\n\tx"))
def test_any_document_is_written_so_that_it_is_read_as_it_was(value: str) -> None:
    assert tomllib.loads(f"x = {document_text(value)}") == {"x": value}


@given(st.floats(0, 2.0**40))
def test_any_moment_is_written_exactly(at: float) -> None:
    import tomllib

    value = tomllib.loads(f"x = {moment(at)}")["x"]
    assert (value.timestamp() if isinstance(value, datetime) else value) == at


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert text('a"\\\n\x1b\x9b\u2028\U000e0001ü 1') == '"a\\"\\\\\\n\\u001b\\u009b\\u2028\\U000e0001ü 1"'


def test_moments_are_dates_where_they_can_be() -> None:
    assert (moment(1795287600.0), moment(0.5)) == ("2026-11-21T19:00:00Z", "1970-01-01T00:00:00.500000Z")
    assert moment(1e12) == "1000000000000.0"
