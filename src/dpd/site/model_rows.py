# SPDX-License-Identifier: Apache-2.0
"""The parts of a site's model as rows of the store's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from dpd.site.database import SiteDatabase, write_fact
from dpd.site.model import SiteModel
from dpd.site.model_checks import network_order
from dpd.site.records import (
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
    Variable,
)
from dpd.site.sequences import SequenceNumber, SequenceVersion

# ---- what is read


def read_computers(database: SiteDatabase) -> list[Computer]:
    """In no order."""
    macs = _lists(database, "SELECT name, mac FROM computer_macs ORDER BY name, place")
    rows = database.rows("SELECT name, guid, boot_image, added_at FROM computers")
    return [Computer(name, macs.get(name.lower(), ()), guid, image, at) for name, guid, image, at in rows]


def read_collections(database: SiteDatabase) -> list[Collection]:
    """By name."""
    computers = _lists(database, "SELECT collection, c.name FROM collection_computers JOIN computers c ON c.name = computer ORDER BY collection, place")  # fmt: skip
    include = _lists(database, "SELECT collection, other FROM collection_links WHERE kind = 'include' ORDER BY collection, place")  # fmt: skip
    exclude = _lists(database, "SELECT collection, other FROM collection_links WHERE kind = 'exclude' ORDER BY collection, place")  # fmt: skip
    rules: dict[str, list[MembershipRule]] = {}
    for name, kind, value in database.rows(
        "SELECT collection, kind, value FROM collection_rules ORDER BY collection, place"
    ):
        rules.setdefault(name.lower(), []).append(MembershipRule(MemberKind(kind), value))
    found = []
    for name, description, at in database.rows("SELECT name, description, added_at FROM collections ORDER BY name"):
        key = name.lower()
        links = include.get(key, ()), exclude.get(key, ())
        found.append(Collection(name, computers.get(key, ()), tuple(rules.get(key, ())), *links, description, at))
    return found


def read_deployments(database: SiteDatabase) -> list[Deployment]:
    """The oldest first."""
    rows = database.rows(
        "SELECT id, target, boot_image, purpose, priority, available_from, expires_at, added_at, name, audience, rerun,"
        " sequence FROM deployments ORDER BY id"
    )
    found = []
    for *values, name, audience, rerun, sequence in rows:
        id, target, image, purpose, priority, begins, ends, at = values
        schedule = int(priority), float(begins), float(ends), float(at)
        rest = name, Audience(audience), Rerun(rerun), sequence
        found.append(Deployment(id, target, image, Purpose(purpose), *schedule, *rest))
    return found


def read_variables(database: SiteDatabase) -> list[Variable]:
    """By target and name."""
    rows = database.rows("SELECT target, name, value, secret FROM variables ORDER BY target, name")
    return [Variable(target, name, value, bool(secret)) for target, name, value, secret in rows]


def read_sequences(database: SiteDatabase) -> list[SequenceVersion]:
    """In no order."""
    rows = database.rows("SELECT name, version, description, steps, published_at, actor, text FROM sequences")
    return [SequenceVersion(*row) for row in rows]


def read_sequence_numbers(database: SiteDatabase) -> list[SequenceNumber]:
    """In no order."""
    return [SequenceNumber(*row) for row in database.rows("SELECT name, last_version FROM sequence_numbers")]


def read_points(database: SiteDatabase) -> list[Point]:
    """By name."""
    groups = _lists(database, "SELECT point, name FROM point_groups ORDER BY point, place")
    rows = database.rows("SELECT name, url, description FROM points ORDER BY name")
    return [Point(name, groups.get(name.lower(), ()), url, description) for name, url, description in rows]


def read_boundaries(database: SiteDatabase) -> list[Boundary]:
    """By address, the wider before the narrower."""
    points = _lists(database, "SELECT network, p.name FROM boundary_points JOIN points p ON p.name = point ORDER BY network, place")  # fmt: skip
    rows = database.rows("SELECT network, description FROM boundaries")
    found = [Boundary(network, points.get(network, ()), description) for network, description in rows]
    return sorted(found, key=lambda each: network_order(each.network))


def _lists(database: SiteDatabase, query: str) -> dict[str, tuple[str, ...]]:
    """The second column's values by the first's in lower case."""
    found: dict[str, list[str]] = {}
    for key, value in database.rows(query):
        found.setdefault(key.lower(), []).append(value)
    return {key: tuple(values) for key, values in found.items()}


# ---- what is written, within a change


def write_computers(connection: sqlite3.Connection, computers: Sequence[Computer]) -> None:
    """MACs and GUIDs are let go of first, since they may move from one of these computers to another."""
    for each in computers:
        connection.execute("DELETE FROM computer_macs WHERE name = ?", (each.name,))
        connection.execute("UPDATE computers SET guid = '' WHERE name = ?", (each.name,))
    for each in computers:
        connection.execute(
            "INSERT INTO computers VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT (name) DO UPDATE SET name = ?1, guid = ?2, boot_image = ?3, added_at = ?4",
            (each.name, each.guid, each.boot_image, each.added_at),
        )
        connection.executemany(
            "INSERT INTO computer_macs VALUES (?, ?, ?)", ((mac, i, each.name) for i, mac in enumerate(each.macs))
        )


def remove_computers(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """With what they have run and their variables, and out of the collections that name them."""
    for name in names:
        connection.execute("DELETE FROM variables WHERE target = ?", (name,))
        connection.execute("DELETE FROM runs WHERE machine = ?", (name.lower(),))
        connection.execute("DELETE FROM computers WHERE name = ?", (name,))


def write_collection(connection: sqlite3.Connection, collection: Collection) -> None:
    """A new one, or another form of one of that name."""
    name = collection.name
    connection.execute("DELETE FROM collections WHERE name = ?", (name,))
    connection.execute("INSERT INTO collections VALUES (?, ?, ?)", (name, collection.description, collection.added_at))
    computers = ((name, each, place) for place, each in enumerate(collection.computers))
    connection.executemany("INSERT INTO collection_computers VALUES (?, ?, ?)", computers)
    rules = ((name, each.kind.value, each.value, place) for place, each in enumerate(collection.rules))
    connection.executemany("INSERT INTO collection_rules VALUES (?, ?, ?, ?)", rules)
    for kind, others in (("include", collection.include), ("exclude", collection.exclude)):
        links = ((name, kind, each, place) for place, each in enumerate(others))
        connection.executemany("INSERT INTO collection_links VALUES (?, ?, ?, ?)", links)


def write_deployment(connection: sqlite3.Connection, deployment: Deployment) -> int:
    """With id 0 a new one; else that one is from now on so, and keeps its runs. Its id."""
    each = deployment
    row = each.target, each.boot_image, each.purpose.value, each.priority, each.available_from, each.expires_at
    rest = each.added_at, each.name, each.audience.value, each.rerun.value, each.sequence
    cursor = connection.execute(
        "INSERT INTO deployments (id, target, boot_image, purpose, priority, available_from, expires_at, added_at, name, audience,"
        " rerun, sequence) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO UPDATE SET target = ?2, boot_image = ?3,"
        " purpose = ?4, priority = ?5, available_from = ?6, expires_at = ?7, added_at = ?8, name = ?9, audience = ?10, rerun = ?11,"
        " sequence = ?12",
        (each.id or None, *row, *rest),
    )
    return each.id or cursor.lastrowid or 0


def write_variable(connection: sqlite3.Connection, variable: Variable) -> None:
    """A new one, or in the place of the one of that name."""
    row = variable.target, variable.name, variable.value, int(variable.secret)
    connection.execute("INSERT OR REPLACE INTO variables VALUES (?, ?, ?, ?)", row)


def write_sequence(connection: sqlite3.Connection, version: SequenceVersion) -> None:
    """A new one; its number is given to no other one."""
    each = version
    row = each.name, each.version, each.description, each.steps, each.published_at, each.actor, each.text
    connection.execute("INSERT INTO sequences VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    write_sequence_number(connection, SequenceNumber(each.name, each.version))


def write_sequence_number(connection: sqlite3.Connection, number: SequenceNumber) -> None:
    """Numbers up to there are given no more."""
    connection.execute(
        "INSERT INTO sequence_numbers VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET last_version = max(last_version, ?2)",
        (number.name, number.last_version),
    )


def write_point(connection: sqlite3.Connection, point: Point) -> None:
    """A new one, or another form of one of that name."""
    connection.execute("DELETE FROM points WHERE name = ?", (point.name,))
    connection.execute("INSERT INTO points VALUES (?, ?, ?)", (point.name, point.url, point.description))
    groups = ((point.name, each, place) for place, each in enumerate(point.groups))
    connection.executemany("INSERT INTO point_groups VALUES (?, ?, ?)", groups)


def write_boundary(connection: sqlite3.Connection, boundary: Boundary) -> None:
    """A new one, or another form of the one of that network."""
    connection.execute("DELETE FROM boundaries WHERE network = ?", (boundary.network,))
    connection.execute("INSERT INTO boundaries VALUES (?, ?)", (boundary.network, boundary.description))
    points = ((boundary.network, each, place) for place, each in enumerate(boundary.points))
    connection.executemany("INSERT INTO boundary_points VALUES (?, ?, ?)", points)


def write_model(connection: sqlite3.Connection, old: SiteModel, new: SiteModel) -> None:
    """All of it, from what is there, `old`, to `new`. Deployments and computers that stay keep what was run. What the fact
    `maintenance` says is for the caller, who knows whose it is."""
    known = {each.name.lower(): each for each in old.computers}
    wanted = {each.name.lower() for each in new.computers}
    kept = {each.id for each in new.deployments}
    for table in ("collections", "boundaries", "points", "approval_rules", "variables"):
        connection.execute(f"DELETE FROM {table}")
    gone = [(each.id,) for each in old.deployments if each.id not in kept]
    connection.executemany("DELETE FROM deployments WHERE id = ?", gone)
    connection.execute("UPDATE deployments SET name = ''")  # names may move from one to another
    remove_computers(connection, [each.name for key, each in known.items() if key not in wanted])
    write_computers(connection, [each for each in new.computers if known.get(each.name.lower()) != each])
    for deployment in new.deployments:
        write_deployment(connection, deployment)
    for collection in new.collections:
        write_collection(connection, collection)
    for point in new.points:
        write_point(connection, point)
    for boundary in new.boundaries:
        write_boundary(connection, boundary)
    rules = ((each.id or None, each.kind.value, each.value, each.added_at) for each in new.rules)
    connection.executemany("INSERT INTO approval_rules VALUES (?, ?, ?, ?)", rules)
    for variable in new.variables:
        write_variable(connection, variable)
    _write_sequences(connection, old, new)
    write_fact(connection, "affinity_mode", new.affinity_mode.value)


def _write_sequences(connection: sqlite3.Connection, old: SiteModel, new: SiteModel) -> None:
    """Texts are large, and most stay."""
    there, wanted = set(old.sequences), set(new.sequences)
    gone = ((each.name, each.version) for each in old.sequences if each not in wanted)
    connection.executemany("DELETE FROM sequences WHERE name = ? AND version = ?", gone)
    for version in new.sequences:
        if version not in there:
            write_sequence(connection, version)
    connection.execute("DELETE FROM sequence_numbers")
    for number in new.sequence_numbers:
        write_sequence_number(connection, number)
