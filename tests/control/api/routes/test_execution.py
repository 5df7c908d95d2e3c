# SPDX-License-Identifier: Apache-2.0
"""Deployments under way, over the API's socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.control.deploying import Deploying
from tests.deployment.executions import begin, said

from dpd.deployment.execution import StepName


async def get(api: aiohttp.ClientSession, target: str) -> Any:
    async with api.get(target) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def refused(api: aiohttp.ClientSession, method: str, target: str, body: object = None) -> tuple[int, str, str]:
    async with api.request(method, target, json=body) as response:
        error = (await response.json())["error"]
        return response.status, error["code"], error["message"]


async def test_a_list_has_each_machine_with_where_it_is(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    first, second = begin(point.book, "pc-1"), begin(point.book, "pc-2", deployment=8)
    point.book.take_reports(
        first,
        [said(1, "1", "done"), said(2, "2.1", "started"), said(0, "2.1", "progress", "half", done_bytes=5, total_bytes=10, rate_bit_s=800)],
        1010.0,
    )  # fmt: skip
    point.book.take_reports(second, [said(1, "1", "failed", "no disk"), said(2, "", "sequence_failed")], 1010.0)
    async with point.open() as api:
        newest, oldest = (await get(api, "/v1/executions"))["executions"]
        assert (newest["id"], oldest["id"]) == (second, first)
        assert (oldest["computer"], oldest["step"], oldest["step_name"]) == ("PC-1", "2.1", "Apply the image")
        assert (oldest["done_bytes"], oldest["total_bytes"], oldest["rate_bit_s"]) == (5, 10, 800)
        assert oldest["step_states"] == ["done", "waiting", "running", "waiting"]
        assert (newest["state"], newest["error"]) == ("failed", "no disk")
        assert f"`dpd deploy log {second}`" in newest["next_step"]
        for query, ids in (
            ("state=open", [first]),
            ("state=ended", [second]),
            ("state=failed", [second]),
            ("state=lost", []),
            ("machine=PC-1", [first]),
            ("deployment=8", [second]),
            ("limit=1", [second]),
            (f"before={second}", [first]),
        ):
            assert [each["id"] for each in (await get(api, f"/v1/executions?{query}"))["executions"]] == ids, query


async def test_one_is_shown_with_its_steps_its_reports_and_its_log(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    id = begin(point.book)
    point.book.take_reports(id, [said(number, "1", "progress", f"word {number}") for number in (1, 2, 3)], 1010.0)
    point.deployments.logs.keep(id, b"what it wrote\n")
    async with point.open() as api:
        shown = await get(api, f"/v1/executions/{id}")
        assert (shown["execution"]["id"], shown["reported"]) == (id, 3)
        assert [(each["id"], each["kind"]) for each in shown["steps"]][2] == ("2.1", "apply_os_image")
        reports = (await get(api, f"/v1/executions/{id}/reports?after=1&limit=1"))["reports"]
        assert [(each["number"], each["message"]) for each in reports] == [(2, "word 2")]
        assert await get(api, f"/v1/executions/{id}/log") == {"execution": id, "text": "what it wrote\n"}


async def test_one_is_cancelled_once_and_says_why(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    id = begin(point.book)
    async with point.open() as api:
        async with api.post(f"/v1/executions/{id}/cancel", json={"reason": " wrong room "}) as response:
            assert (await response.json())["execution"]["cancel_reason"] == "wrong room"
        assert point.book.take_reports(id, [said(1, "", "cancelled")], 1010.0).next == 2
        status, code, message = await refused(api, "POST", f"/v1/executions/{id}/cancel", {})
    assert (status, code) == (409, "deployment_refused")
    assert "has ended as cancelled" in message


async def test_captures_are_listed(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    steps = [StepName("1", "Capture", "capture_image")]
    id = point.book.begin("pc-1", "PC-1", "52:54:00:00:00:01", 7, "reference", 1, steps, 1000.0)
    place = point.deployments.captures.begin(id, "CAP00001", 100)
    point.deployments.captures.write(place.id, 0, bytes(40))
    async with point.open() as api:
        (capture,) = (await get(api, "/v1/captures"))["captures"]
    assert (capture["package_id"], capture["kept_bytes"], capture["state"]) == ("CAP00001", 40, "open")


@pytest.mark.parametrize("path", ["", "/reports", "/log"])
async def test_what_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    async with Deploying(tmp_path).open() as api:
        status, code, message = await refused(api, "GET", f"/v1/executions/{'f' * 16}{path}")
    assert (status, code) == (404, "execution_not_found")
    assert "`dpd deploy list`" in message


async def test_an_execution_without_a_log_says_when_there_is_one(tmp_path: Path) -> None:
    point = Deploying(tmp_path)
    id = begin(point.book)
    async with point.open() as api:
        status, _, message = await refused(api, "GET", f"/v1/executions/{id}/log")
    assert (status, "when its sequence fails" in message) == (404, True)


async def test_a_dpd_without_a_book_says_so(api: aiohttp.ClientSession) -> None:
    for target in ("/v1/executions", "/v1/executions/stream", "/v1/captures"):
        status, code, message = await refused(api, "GET", target)
        assert (status, code) == (503, "unavailable")
        assert "`dpd serve`" in message
