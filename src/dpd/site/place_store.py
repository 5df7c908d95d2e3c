# SPDX-License-Identifier: Apache-2.0
"""The part of the site store that says where content is: distribution points, and boundaries that lead to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dpd.site.boundaries import BoundaryMap
from dpd.site.database import SiteDatabase
from dpd.site.model_checks import normal_boundary, normal_point
from dpd.site.model_rows import read_boundaries, read_points, write_boundary, write_point
from dpd.site.records import Boundary, Point, SiteConflict, SiteNotFound


class PlaceStore:
    """`points` by name in lower case and `boundaries` by network are replaced as wholes."""

    def __init__(self, database: SiteDatabase) -> None:
        self._database = database
        self.points: Mapping[str, Point] = {}
        self.boundaries: Mapping[str, Boundary] = {}
        self.boundary_map = BoundaryMap()
        self._load_places()

    def _load_places(self) -> None:
        self.points = {each.name.lower(): each for each in read_points(self._database)}
        self.boundaries = {each.network: each for each in read_boundaries(self._database)}
        self.boundary_map = BoundaryMap(self.boundaries.values())

    def add_point(self, point: Point, actor: str) -> Point:
        """Raises SiteError, SiteConflict where there is one of that name."""
        with self._database.own():
            normal = normal_point(point)
            if normal.name.lower() in self.points:
                raise SiteConflict(f"point {normal.name}: is there already; `dpd point show {normal.name}` shows it")
            return self._write_point(normal, actor, "point added")

    def change_point(self, point: Point, actor: str) -> Point:
        """The one of that name is from now on so. Raises SiteError, SiteNotFound."""
        with self._database.own():
            return self._write_point(
                replace(normal_point(point), name=self.point(point.name).name), actor, "point changed"
            )

    def _write_point(self, point: Point, actor: str, action: str) -> Point:
        self._database.change(actor, action, point.name, lambda c: write_point(c, point), self._load_places)
        return point

    def point(self, name: str) -> Point:
        """By name, in any case. Raises SiteNotFound."""
        found = self.points.get(name.lower())
        if found is None:
            raise SiteNotFound(f"no point {name[:70]}; `dpd point list` shows those there are")
        return found

    def remove_point(self, name: str, actor: str) -> Point:
        """No boundary may name it any more. Raises SiteNotFound, SiteConflict."""
        with self._database.own():
            point = self.point(name)
            naming = [each.network for each in self.boundaries.values() if point.name in each.points]
            if naming:
                raise SiteConflict(
                    f"point {point.name}: boundary {naming[0]} names it; `dpd boundary change {naming[0]}` takes that out first"
                )
            self._database.change(
                actor,
                "point removed",
                point.name,
                lambda c: c.execute("DELETE FROM points WHERE name = ?", (point.name,)),
                self._load_places,
            )
            return point

    def add_boundary(self, boundary: Boundary, actor: str) -> Boundary:
        """Raises SiteError, SiteNotFound for a point that is not there, SiteConflict where there is one of that network."""
        with self._database.own():
            normal = self._normal_boundary(boundary)
            if normal.network in self.boundaries:
                raise SiteConflict(
                    f"boundary {normal.network}: is there already; `dpd boundary change {normal.network}` changes it"
                )
            return self._write_boundary(normal, actor, "boundary added")

    def change_boundary(self, boundary: Boundary, actor: str) -> Boundary:
        """The one of that network is from now on so. Raises SiteError, SiteNotFound."""
        with self._database.own():
            normal = self._normal_boundary(boundary)
            self.boundary(normal.network)
            return self._write_boundary(normal, actor, "boundary changed")

    def _normal_boundary(self, boundary: Boundary) -> Boundary:
        return normal_boundary(boundary, {key: each.name for key, each in self.points.items()})

    def _write_boundary(self, boundary: Boundary, actor: str, action: str) -> Boundary:
        detail = f"{boundary.network}: {', '.join(boundary.points)}"
        self._database.change(actor, action, detail, lambda c: write_boundary(c, boundary), self._load_places)
        return boundary

    def boundary(self, network: str) -> Boundary:
        """By its network in normal form. Raises SiteNotFound."""
        found = self.boundaries.get(network)
        if found is None:
            raise SiteNotFound(f"no boundary {network[:70]}; `dpd boundary list` shows those there are")
        return found

    def remove_boundary(self, network: str, actor: str) -> Boundary:
        """Raises SiteNotFound."""
        with self._database.own():
            boundary = self.boundary(network)
            self._database.change(
                actor,
                "boundary removed",
                boundary.network,
                lambda c: c.execute("DELETE FROM boundaries WHERE network = ?", (boundary.network,)),
                self._load_places,
            )
            return boundary

    def points_for(self, address: str) -> tuple[str, ...]:
        """Where an address is to fetch content, the best first. Raises SiteError for what is no address."""
        return self.boundary_map.points_for(address)
