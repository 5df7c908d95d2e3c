# SPDX-License-Identifier: Apache-2.0
"""Files of other systems, as their makers' manuals show them."""

from __future__ import annotations

import pytest

from dpd.site.computer_csv import LineProblem, read_computers
from dpd.site.import_formats import ImportFormat
from dpd.site.known_computers import KnownComputers
from dpd.site.records import Computer

FOG, CONFIGMGR = ImportFormat.FOG, ImportFormat.CONFIGMGR
ONE, TWO = "00:11:22:33:44:55", "00:11:22:33:44:66"
GUID = "55555555-5555-5555-5555-555555555555"

# Both from FOG's manual: the same host, without and with a line of names.
POSITIONAL = (
    f'{ONE}|{TWO},PC-Lab-01,Front lab PC,,4,,,,,0,,,,,,,5,,,,,0,,,,1,0,0,0,,,"groups:Lab A|Lab B;snapins:7zip"\n'
)
HEADED = f'primac,name,description,associations\n{ONE}|{TWO},PC-Lab-01,Front lab PC,"groups:Lab A|Lab B;snapins:7zip"\n'


@pytest.mark.parametrize(
    "text", [POSITIONAL, HEADED, "\ufeff" + HEADED, f"Name,ADPass,PriMac\nPC-Lab-01,secret,{ONE}|{TWO}\n"]
)
def test_fogs_export_of_hosts_with_and_without_names_of_columns(text: str) -> None:
    reading = read_computers(text, KnownComputers(), FOG)
    assert reading.problems == ()
    assert reading.computers == (Computer("PC-Lab-01", (ONE, TWO)),)


def test_what_fog_does_not_say_stays_as_it_is_known() -> None:
    known = KnownComputers([Computer("pc-lab-01", (TWO,), GUID, "IMG1")])
    reading = read_computers(f"{ONE},PC-Lab-01\n", known, FOG)
    assert reading.computers == (Computer("PC-Lab-01", (ONE,), GUID, "IMG1"),)


@pytest.mark.parametrize(
    "text",
    [
        f"NEWCOMP1,{GUID},{ONE}\n",  # as the wizard's help shows it
        f"Name,SMBIOS-GUID,MAC Address\nNEWCOMP1,{GUID},{ONE}\n",
        f'"NEWCOMP1","{{{GUID}}}","{ONE}","Admin","var=1"\n',
    ],
)
def test_the_file_of_the_wizard_of_configmgr(text: str) -> None:
    reading = read_computers(text, KnownComputers(), CONFIGMGR)
    assert reading.problems == ()
    assert reading.computers == (Computer("NEWCOMP1", (ONE,), GUID),)


def test_either_identity_is_enough() -> None:
    reading = read_computers(f"A1,,{ONE}\n\nA2,{GUID},\n", KnownComputers(), CONFIGMGR)
    assert reading.computers == (Computer("A1", (ONE,)), Computer("A2", (), GUID))
    assert reading.lines == (1, 3)


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        ("primac,description\n", FOG, LineProblem(1, "expected the columns primac and name, as FOG exports its hosts")),
        (f"{ONE},PC 1\n", FOG, LineProblem(1, "name 'PC 1': expected 1 to 63 of")),
        (f"{ONE},PC1\nnonsense,PC2\n", FOG, LineProblem(2, "mac 'nonsense': expected six bytes")),
        (",PC1\n", FOG, LineProblem(1, "computer PC1: expected a MAC or a GUID")),
        (f"PC1,{GUID},{ONE}\nPC2,x,{TWO}\n", CONFIGMGR, LineProblem(2, "guid 'x': expected such as")),
        (f"PC1;{GUID};{ONE}\n", CONFIGMGR, LineProblem(1, "name 'PC1;")),
        ('"PC1\n', CONFIGMGR, LineProblem(1, "no CSV: ")),
    ],
)
def test_what_is_wrong_names_its_line(text: str, form: ImportFormat, problem: LineProblem) -> None:
    (found,) = read_computers(text, KnownComputers(), form).problems
    assert found.line == problem.line
    assert found.message.startswith(problem.message)
