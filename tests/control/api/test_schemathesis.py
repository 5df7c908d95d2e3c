# SPDX-License-Identifier: Apache-2.0
"""A daemon that runs, asked whatever its own OpenAPI document allows, and what it forbids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.control.document_examples import TIMEOUT_S, Api, has_end, hold_to_document
from tests.daemon_process import DaemonProcess

from dpd.control.api.application import MAX_JSON_BYTES
from dpd.control.api.openapi import JSON, Route
from dpd.control.api.table import ROUTES, openapi_document


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    daemon = DaemonProcess(folder / "state")
    port = Api.open_tcp(folder, daemon)
    with daemon.ready():
        api = Api(folder, daemon, port)
        yield api
        api.session.close()


@pytest.mark.filterwarnings("ignore")  # of schemathesis' own insides
@pytest.mark.parametrize("route", [*filter(has_end, ROUTES)], ids=lambda route: f"{route.method} {route.path}")
def test_no_request_brings_a_fault_or_an_answer_that_is_not_told(api: Api, route: Route) -> None:
    hold_to_document(api, route)


def test_the_stream_of_events_is_what_the_document_tells(api: Api) -> None:
    streams = [route for route in ROUTES if not has_end(route)]
    assert streams
    for route in streams:
        told = openapi_document()["paths"][route.path][route.method.lower()]["responses"]
        with api.session.get(api.base + route.path, stream=True, timeout=TIMEOUT_S) as response:
            assert response.status_code == 200
            assert response.headers["Content-Type"].partition(";")[0] in told["200"]["content"]
        with api.session.get(f"{api.base}{route.path}?nothing=1", timeout=TIMEOUT_S) as response:
            assert response.status_code == 400
            assert "400" in told


def test_a_body_that_is_too_large_is_told(api: Api) -> None:
    body = b'{"name": "%s"}' % (b"x" * MAX_JSON_BYTES)
    response = api.session.post(
        f"{api.base}/v1/collections", data=body, headers={"Content-Type": JSON}, timeout=TIMEOUT_S
    )
    assert response.status_code == 413
    assert "413" in openapi_document()["paths"]["/v1/collections"]["post"]["responses"]
