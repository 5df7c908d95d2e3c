# SPDX-License-Identifier: Apache-2.0
"""Computers out of a CSV file: name, mac, guid, boot_image, in any order, under a line that names them.

A computer with several MACs has them in one cell, parted by blanks or semicolons, or a line for each. A column that is not
there leaves what is known as it is; an empty cell of one that is there says that there is none. A column `variable:NAME` sets
that variable of the computers that have something in it. Files of other systems are read
as `import_formats` says.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dpd.site.import_formats import ImportFormat, Rows, configmgr_cells, fog_cells
from dpd.site.known_computers import KnownComputers
from dpd.site.records import Computer, SiteError, Variable, check_name, normal_guid, normal_mac_prefix
from dpd.site.variables import check_variable_name, check_variable_value, variable_key

COLUMNS = ("name", "mac", "guid", "boot_image")
VARIABLE = "variable:"  # and a name: a column too
MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with one line, counted from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class CsvReading:
    """Computers in the order of the file, the first line of each, what is wrong, and the computers' variables; with problems
    nothing is to be done."""

    computers: tuple[Computer, ...] = ()
    lines: tuple[int, ...] = ()
    problems: tuple[LineProblem, ...] = ()
    variables: tuple[Variable, ...] = ()


def read_computers(text: str, known: KnownComputers, form: ImportFormat = ImportFormat.DPD) -> CsvReading:
    """What a file wants, with what is known of computers where it does not speak of that."""
    dialect = _dialect(text) if form is ImportFormat.DPD else csv.excel
    rows: Rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), dialect=dialect, strict=True)
    try:
        if form is ImportFormat.DPD:
            return _read_own(rows, known)
        return _read((fog_cells if form is ImportFormat.FOG else configmgr_cells)(rows), known, [])
    except csv.Error as error:
        return CsvReading(problems=(LineProblem(1, f"no CSV: {error}"),))
    except SiteError as error:
        return CsvReading(problems=(LineProblem(1, str(error)),))


def _dialect(text: str) -> type[csv.Dialect]:
    """A spreadsheet of a country with decimal commas parts columns by semicolons."""
    first = text.partition("\n")[0]

    class Dialect(csv.excel):
        delimiter = max(",;\t", key=first.count)

    return Dialect


def _read_own(rows: Rows, known: KnownComputers) -> CsvReading:
    header = [_column(cell.strip()) for cell in next(rows, [])]
    if wrong := _wrong_header(header):
        return CsvReading(problems=(LineProblem(1, wrong),))
    problems: list[LineProblem] = []
    return _read(_own_cells(rows, header, problems), known, problems)


def _own_cells(rows: Rows, header: list[str], problems: list[LineProblem]) -> Iterator[tuple[int, dict[str, str]]]:
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) == len(header):
            yield rows.line_num, dict(zip(header, (cell.strip() for cell in row), strict=True))
        else:
            expected = f"{len(row)} columns, expected {len(header)}: {', '.join(header)}"
            problems.append(LineProblem(rows.line_num, expected))


def _read(
    lines: Iterable[tuple[int, dict[str, str]]], known: KnownComputers, problems: list[LineProblem]
) -> CsvReading:
    found: dict[str, tuple[int, Computer]] = {}
    variables: dict[tuple[str, str], Variable] = {}
    for line, cells in lines:
        try:
            _take(cells, line, found, known)
            _take_variables(cells, variables)
        except SiteError as error:
            problems.append(LineProblem(line, str(error)))
    for line, computer in found.values():
        if not computer.macs and not computer.guid:
            problems.append(LineProblem(line, f"computer {computer.name}: expected a MAC or a GUID to know it by"))
    problems.sort(key=lambda each: each.line)
    computers = tuple(computer for _, computer in found.values())
    first_lines = tuple(line for line, _ in found.values())
    return CsvReading(computers, first_lines, tuple(problems[:MAX_PROBLEMS]), tuple(variables.values()))


def _column(text: str) -> str:
    """A column's name in one case, but for a variable's."""
    is_variable = text[: len(VARIABLE)].lower() == VARIABLE
    return VARIABLE + text[len(VARIABLE) :].strip() if is_variable else text.lower()


def _wrong_header(header: list[str]) -> str:
    allowed = f"expected a first line with name and mac or guid, of {', '.join(COLUMNS)} and {VARIABLE}NAME"
    if unknown := [each for each in header if each not in COLUMNS and not each.startswith(VARIABLE)]:
        return f"unknown column {unknown[0][:40]!r}; {allowed}"
    try:
        for each in header:
            if each.startswith(VARIABLE):
                check_variable_name(each[len(VARIABLE) :])
    except SiteError as error:
        return str(error)
    if len({each.lower() for each in header}) != len(header):
        return f"a column is there twice; {allowed}"
    return "" if "name" in header and ("mac" in header or "guid" in header) else allowed


def _take_variables(cells: dict[str, str], variables: dict[tuple[str, str], Variable]) -> None:
    """Raises SiteError."""
    for column, value in cells.items():
        if column.startswith(VARIABLE) and value:
            name = column[len(VARIABLE) :]
            variable = Variable(cells["name"], name, check_variable_value(name, value))
            if variables.setdefault(variable_key(variable), variable).value != value:
                raise SiteError(f"computer {cells['name']}: variable {name} has another value in an earlier line")


def _take(cells: dict[str, str], line: int, found: dict[str, tuple[int, Computer]], known: KnownComputers) -> None:
    """Add a line to what was found. Raises SiteError."""
    name = check_name(cells["name"])
    macs = tuple(normal_mac_prefix(each, whole=True) for each in re.split(r"[;\s]+", cells.get("mac", "")) if each)
    guid = normal_guid(cells["guid"]) if cells.get("guid") else ""
    first_line, computer = found.get(name.lower(), (line, None))
    if computer is None:
        old = known.by_name.get(name.lower(), Computer(name, ()))
        computer = replace(
            old, name=name, macs=() if "mac" in cells else old.macs, guid="" if "guid" in cells else old.guid
        )
        computer = replace(computer, boot_image=cells.get("boot_image", old.boot_image))
    for column, before, now in (
        ("guid", computer.guid, guid),
        ("boot_image", computer.boot_image, cells.get("boot_image")),
    ):
        if before and now and before != now:
            raise SiteError(f"computer {name}: {column} {now[:60]} here and {before} in line {first_line}")
    merged = replace(computer, macs=tuple(dict.fromkeys((*computer.macs, *macs))), guid=guid or computer.guid)
    found[name.lower()] = first_line, merged
