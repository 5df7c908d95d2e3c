# SPDX-License-Identifier: Apache-2.0
"""Computers out of a CSV file: what a file means, and every wrong line named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.site.computer_csv import CsvReading, read_computers
from dpd.site.known_computers import KnownComputers
from dpd.site.records import Computer, Variable

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
GUID = "4c4c4544-0044-3510-8052-b4c04f4e4d31"
NOBODY = KnownComputers()


def problems(reading: CsvReading) -> list[tuple[int, str]]:
    return [(each.line, each.message) for each in reading.problems]


def test_columns_stand_in_any_order_and_identities_in_any_form() -> None:
    text = f"\ufeffguid,Name,mac\r\n{{{GUID.upper()}}},PC1,52-54-00-00-00-0A\r\n,PC2,5254.0000.000b\r\n"
    reading = read_computers(text, NOBODY)
    assert reading.computers == (Computer("PC1", (A,), GUID), Computer("PC2", (B,)))
    assert reading.lines == (2, 3)
    assert reading.problems == ()


@pytest.mark.parametrize(
    "text", [f"name;mac\nPC1;{A} {B}\n", f"name,mac\nPC1,{A};{B}\n", f"name,mac\n\nPC1,{A}\npc1,{B}\n"]
)
def test_several_macs_stand_in_one_cell_or_in_a_line_each(text: str) -> None:
    assert read_computers(text, NOBODY).computers == (Computer("PC1", (A, B)),)


def test_a_column_of_a_variable_sets_it_where_there_is_something_in_it() -> None:
    reading = read_computers(f"name,mac,Variable: TimeZone ,variable:x_1\nPC1,{A},Europe/Berlin,\nPC1,{B},,2\n", NOBODY)
    assert reading.computers == (Computer("PC1", (A, B)),)
    assert reading.variables == (Variable("PC1", "TimeZone", "Europe/Berlin"), Variable("PC1", "x_1", "2"))
    assert read_computers(f"name,mac\nPC1,{A}\n", NOBODY).variables == ()


def test_variables_that_cannot_be_are_told() -> None:
    for header, words in (
        ("variable:", "beginning with a letter"),
        ("variable:_x", "read-only"),
        ("variable:a,variable:A", "a column is there twice"),
    ):
        ((line, message),) = problems(read_computers(f"name,mac,{header}\n", NOBODY))
        assert (line, words in message) == (1, True)
    text = f"name,mac,variable:Zone\nPC1,{A},a\npc1,{B},b\nPC2,{A[:-1]}c,{'x' * 4001}\n"
    assert [(line, message.partition(";")[0]) for line, message in problems(read_computers(text, NOBODY))] == [
        (3, "computer pc1: variable Zone has another value in an earlier line"),
        (4, "variable Zone: 4001 characters, expected at most 4000"),
    ]


def test_a_column_that_is_not_there_leaves_what_is_known() -> None:
    known = KnownComputers([Computer("PC1", (A,), GUID, "IMG1")])
    assert read_computers(f"name,mac\nPC1,{B}\n", known).computers == (Computer("PC1", (B,), GUID, "IMG1"),)
    assert read_computers(f"name,mac,guid,boot_image\nPC1,{A},,\n", known).computers == (Computer("PC1", (A,)),)
    assert read_computers(f"name,guid\nPC1,{GUID}\n", known).computers == (Computer("PC1", (A,), GUID, "IMG1"),)


def test_every_wrong_line_is_named() -> None:
    text = f"name,mac,guid\nPC1,{A}\n,{A},\nPC2,52:54,\nPC3,{A},nonsense\nPC4,,\nall,{A},\nPC5,{B},\n"
    assert problems(read_computers(text, NOBODY)) == [
        (2, "2 columns, expected 3: name, mac, guid"),
        (
            3,
            'name \'\': expected 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit, and not "all" or "unknown"',
        ),
        (4, "mac '52:54': expected six bytes such as 52:54:00:12:34:56"),
        (5, "guid 'nonsense': expected such as 4c4c4544-0044-3510-8052-b4c04f4e4d31"),
        (6, "computer PC4: expected a MAC or a GUID to know it by"),
        (
            7,
            'name \'all\': expected 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or digit, and not "all" or "unknown"',
        ),
    ]


@pytest.mark.parametrize(
    "header", ["", "PC1,52:54:00:00:00:0a", "name", "mac,guid", "name,mac,mac", "name,mac,asset_tag"]
)
def test_without_a_first_line_that_names_the_columns_nothing_is_read(header: str) -> None:
    reading = read_computers(f"{header}\nPC1,{A}\n", NOBODY)
    ((line, message),) = problems(reading)
    assert (line, reading.computers) == (1, ())
    assert "expected a first line with name and mac or guid" in message


def test_lines_of_one_computer_must_not_contradict_each_other() -> None:
    text = f"name,mac,guid,boot_image\nPC1,{A},{GUID},IMG1\nPC1,{B},,IMG2\n"
    assert problems(read_computers(text, NOBODY)) == [(3, "computer PC1: boot_image IMG2 here and IMG1 in line 2")]


def test_an_open_quote_is_no_csv() -> None:
    assert problems(read_computers(f'name,mac\n"PC1,{A}\n', NOBODY)) == [(1, "no CSV: unexpected end of data")]


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)
    | st.from_regex(r"name,mac(\n[^\x00]{0,60}){0,5}")
)
def test_any_text_is_computers_or_named_problems(text: str) -> None:
    reading = read_computers(text, NOBODY)
    assert reading.problems or all(computer.macs or computer.guid for computer in reading.computers)
    assert all(each.line >= 1 and each.message for each in reading.problems)
