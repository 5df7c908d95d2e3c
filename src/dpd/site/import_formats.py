# SPDX-License-Identifier: Apache-2.0
"""Computers as other systems write them into CSV files, as the cells of ours: name, mac and perhaps guid.

FOG: the export of its hosts, as its own manual describes it (docs/CSV_IMPORT_EXPORT.md of fogproject, "Host"): with a line of
column names, of which `primac` and `name` are needed, or without, then `primac` first and `name` second; several MACs are
parted by `|`. All else, such as passwords of a domain, is left where it is.

Configuration Manager: the file that its Import Computer Information wizard reads, as its help describes it ("Choose
Mapping"): NAME,SMBIOS GUID,MAC, without column headings unless the wizard is told of them; further columns are variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

from dpd.site.records import SiteError


class ImportFormat(StrEnum):
    """Whose CSV it is."""

    DPD = "dpd"
    FOG = "fog"
    CONFIGMGR = "configmgr"


class Rows(Protocol):
    """What `csv.reader` gives."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


def fog_cells(rows: Rows) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells of each host. Raises SiteError for a line of names that lacks one."""
    mac, name = 0, 1
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        names = [cell.lower() for cell in cells]
        if number == 0 and ("primac" in names or "name" in names):
            if "primac" not in names or "name" not in names:
                raise SiteError("expected the columns primac and name, as FOG exports its hosts")
            mac, name = names.index("primac"), names.index("name")
        elif any(cells):
            yield rows.line_num, {"name": _cell(cells, name), "mac": _cell(cells, mac).replace("|", " ")}


def configmgr_cells(rows: Rows) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells of each computer."""
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 0 and _is_heading(cells)):
            continue
        yield rows.line_num, {"name": _cell(cells, 0), "guid": _cell(cells, 1), "mac": _cell(cells, 2)}


def _cell(cells: list[str], place: int) -> str:
    return cells[place] if place < len(cells) else ""


def _is_heading(cells: list[str]) -> bool:
    """Names of columns have no digits; GUIDs and MACs are made of them."""
    told = [cell for cell in cells[1:3] if cell]
    return bool(told) and not any(re.search(r"\d", cell) for cell in told)
