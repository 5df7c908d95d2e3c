# SPDX-License-Identifier: Apache-2.0
"""The site server's table of routes, and its own ones over a socket."""

from __future__ import annotations

import pytest
from openapi_spec_validator import validate
from tests.site_process import LoopbackSite

from dpd.cli.client import RefusedByDaemon
from dpd.control.access.callers import Role
from dpd.site_server.api import OWN_ROUTES, ROUTES, SiteApi, openapi_document


def test_the_document_is_sound_and_names_every_operation_once() -> None:
    document = openapi_document()
    validate(document)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)


def test_what_a_site_server_shares_with_a_point_needs_nothing_that_it_lacks() -> None:
    paths = {route.path for route in ROUTES}
    assert {"/v1/computers", "/v1/collections", "/v1/site/plan", "/v1/messages", "/v1/events/stream"} <= paths
    assert not {"/v1/sessions", "/v1/content", "/v1/pxe/pending"} & paths
    assert all(hasattr(SiteApi, route.verb.__name__) for route in OWN_ROUTES)


def test_who_may_change_what_points_there_are_is_admin() -> None:
    roles = {
        (route.method, route.path): route.needed_role("")
        for route in ROUTES
        if route.path.startswith("/v1/points") and "{dp}" not in route.path
    }
    assert {key: role for key, role in roles.items() if key[0] != "GET"} == {
        ("POST", "/v1/points"): Role.ADMIN,
        ("PATCH", "/v1/points/{point}"): Role.ADMIN,
        ("DELETE", "/v1/points/{point}"): Role.ADMIN,
    }


def test_a_point_is_declared_put_into_groups_and_taken_out(site: LoopbackSite) -> None:
    client = site.client
    client.post("points", body={"name": "later", "groups": ["north"], "description": "to come"})
    shown = client.get("points", "later")
    assert (shown["state"], shown["declared"], shown["groups"]) == ("never", True, ["north"])
    client.patch("points", "later", body={"groups": ["north", "south"]})
    assert [each["name"] for each in client.get("points", group="south")["points"]] == ["later"]
    with pytest.raises(RefusedByDaemon, match="has not been heard yet"):
        site.at("later").get("status")
    client.delete("points", "later")
    with pytest.raises(RefusedByDaemon, match="no distribution point later"):
        client.get("points", "later")


def test_an_assignment_is_kept_listed_and_taken_back(site: LoopbackSite) -> None:
    client = site.client
    client.post("assignments", body={"target": "dp:hq", "package_id": "LAB", "source_version": 3})
    (shown,) = client.get("assignments")["assignments"]
    assert (shown["target"], shown["package_id"], shown["source_version"], shown["priority"]) == ("dp:hq", "LAB", 3, 2)
    assert client.delete("assignments", "dp:hq", "LAB")["package_id"] == "LAB"
    with pytest.raises(RefusedByDaemon, match="is not assigned"):
        client.delete("assignments", "dp:hq", "LAB")
