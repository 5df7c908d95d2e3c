# SPDX-License-Identifier: Apache-2.0
"""A site server that runs, with a real point behind a real NATS server, asked whatever its OpenAPI document allows and forbids."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.control.document_examples import Api, Drained, has_end, hold_to_document
from tests.daemon_process import DaemonProcess
from tests.nats_server import PATIENCE_S, NatsServer, needs_nats

from dpd.control.api.openapi import Route
from dpd.site_server.api import ROUTES

pytestmark = needs_nats
BUS = '[bus]\nurl = "{url}"\nsite = "lab"\npoint = "p1"\nask_timeout_s = 5\n'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("site_api")
    site = DaemonProcess(folder / "site", command=("site", "serve"))
    point = DaemonProcess(folder / "point")
    with NatsServer(folder / "nats") as nats:
        for each in (site, point):
            each.config.write_text(each.config.read_text() + BUS.format(url=nats.url))
        port = Api.open_tcp(folder, site)
        with site.ready(), point.ready():
            api = Api(folder, site, port)
            Drained(point)
            _wait_present(api)
            yield api
            api.session.close()


def _wait_present(api: Api) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(point["state"] == "present" for point in api.ask("GET", "/v1/points")["points"]):
        assert time.monotonic() < deadline, api.ask("GET", "/v1/points")
        time.sleep(0.2)


def _is_own(route: Route) -> bool:
    return has_end(route) and "{dp" not in route.path


@pytest.mark.filterwarnings("ignore")  # of schemathesis' own insides
@pytest.mark.parametrize("route", [*filter(_is_own, ROUTES)], ids=lambda route: f"{route.method} {route.path}")
def test_no_request_brings_a_fault_or_an_answer_that_is_not_told(api: Api, route: Route) -> None:
    hold_to_document(api, route)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["/v1/points/{dp}/", "/v1/groups/{dp_group}/"])
def test_no_request_to_a_point_or_a_group_does(api: Api, prefix: str) -> None:
    routes = [route for route in ROUTES if route.path.startswith(prefix) and has_end(route)]
    assert len(routes) > 50
    api.answers.clear()
    for route in routes[:: 1 if "dp}" in prefix else 3]:  # a group is asked as its points are
        hold_to_document(api, route, 1, frozenset({"dp", "dp_group"}))
    assert api.answers[200] > 10
