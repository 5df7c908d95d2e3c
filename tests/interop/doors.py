# SPDX-License-Identifier: Apache-2.0
"""Two doors to the same verbs: the `dpd` command, and the API as curl speaks it. What both say must be the same."""

from __future__ import annotations

import json
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.interop.daemon import DPD

TIMEOUT_S = 300.0
LOOK_INTERVAL_S = 0.2
ENDED = ("done", "failed", "cancelled")

Fields = dict[str, Any]


def run(*command: str | Path) -> str:
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, f"{' '.join(map(str, command))}: {ran.stderr or ran.stdout}"
    return ran.stdout


_OF_THE_MOMENT = frozenset(
    {
        "added_at",
        "id",
        "created_at",
        "started_at",
        "ended_at",
        "done_bytes",
        "total_bytes",
        "rate_mbit_s",
        "eta_s",
        "actor",
    }
)


def lasting(said: Any, *without: str) -> Any:
    """What was said, without what is of the moment, and without these fields."""
    if isinstance(said, dict):
        dropped = _OF_THE_MOMENT.union(without)
        return {name: lasting(value, *without) for name, value in said.items() if name not in dropped}
    if isinstance(said, list):
        return [lasting(each, *without) for each in said]
    return said


class Door(ABC):
    """One daemon's verbs, as JSON."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    @abstractmethod
    def publish(self, path: Path, package: str, kind: str, tag: str) -> Fields: ...
    @abstractmethod
    def contents(self, *, tag: str = "", kind: str = "") -> list[Fields]: ...
    @abstractmethod
    def show(self, package: str) -> Fields: ...
    @abstractmethod
    def verify(self, package: str) -> Fields: ...
    @abstractmethod
    def images(self, package: str) -> Fields: ...
    @abstractmethod
    def verify_images(self, package: str) -> Fields: ...
    @abstractmethod
    def export(self, package: str, index: int, new_package: str) -> Fields: ...
    @abstractmethod
    def order(self, kind: str, package: str) -> Fields: ...
    @abstractmethod
    def state(self, package: str) -> Fields: ...
    @abstractmethod
    def remove(self, package: str) -> Fields: ...
    @abstractmethod
    def collect(self, *, delete: bool) -> Fields: ...


class CommandDoor(Door):
    """`dpd … --json`."""

    def _dpd(self, *arguments: str | Path) -> Any:
        return json.loads(run("env", f"DPD_SOCKET={self.socket}", DPD, *arguments, "--json"))

    def publish(self, path: Path, package: str, kind: str, tag: str) -> Fields:
        options = ("--package", package, "--kind", kind, "--tag", tag, "--in-place")
        return dict(self._dpd("content", "publish", path, *options))

    def contents(self, *, tag: str = "", kind: str = "") -> list[Fields]:
        given = {"--tag": tag, "--kind": kind}
        options = [word for name, value in given.items() if value for word in (name, value)]
        return list(self._dpd("content", "list", *options)["content"])

    def show(self, package: str) -> Fields:
        return dict(self._dpd("content", "show", package))

    def verify(self, package: str) -> Fields:
        return dict(self._dpd("content", "verify", package))

    def images(self, package: str) -> Fields:
        return dict(self._dpd("content", "images", package))

    def verify_images(self, package: str) -> Fields:
        return dict(self._dpd("content", "verify-images", package))

    def export(self, package: str, index: int, new_package: str) -> Fields:
        return dict(self._dpd("content", "export-image", package, str(index), new_package))

    def order(self, kind: str, package: str) -> Fields:
        return dict(self._dpd("content", kind, package))

    def state(self, package: str) -> Fields:
        (found,) = self._dpd("content", "status", package)["packages"]
        return dict(found)

    def remove(self, package: str) -> Fields:
        return dict(self._dpd("content", "remove", package))

    def collect(self, *, delete: bool) -> Fields:
        return dict(self._dpd("content", "gc", *(["--delete"] if delete else [])))


class ApiDoor(Door):
    """HTTP and JSON over the socket."""

    def _curl(self, *arguments: str) -> str:
        return run("curl", "--silent", "--show-error", "--unix-socket", self.socket, *arguments)

    def _get(self, path: str, **query: str) -> Any:
        return self._checked(json.loads(self._curl(f"http://dpd/v1/{path}?{urlencode(query)}")))

    def _send(self, method: str, path: str, body: Fields | None = None) -> Any:
        """What the last line says, of a reply of one or many."""
        told = ("-H", "Content-Type: application/json", "-d", json.dumps(body)) if body is not None else ()
        lines = self._curl("-X", method, *told, f"http://dpd/v1/{path}").splitlines()
        last = self._checked(json.loads(lines[-1]))
        return last["content"] if "content" in last and len(last) == 1 else last

    def _checked(self, reply: Any) -> Any:
        assert "error" not in reply or "state" in reply, reply
        return reply

    def publish(self, path: Path, package: str, kind: str, tag: str) -> Fields:
        body = {"path": str(path), "package_id": package, "kind": kind, "tags": [tag]}
        return dict(self._send("POST", "content", body))

    def contents(self, *, tag: str = "", kind: str = "") -> list[Fields]:
        given = {"tags": tag, "kind": kind}
        return list(self._get("content", **{name: value for name, value in given.items() if value})["content"])

    def show(self, package: str) -> Fields:
        return dict(self._get(f"content/{package}"))

    def verify(self, package: str) -> Fields:
        return dict(self._send("POST", f"content/{package}/verify"))

    def images(self, package: str) -> Fields:
        return dict(self._get(f"content/{package}/images"))

    def verify_images(self, package: str) -> Fields:
        return dict(self._send("POST", f"content/{package}/images/verify"))

    def export(self, package: str, index: int, new_package: str) -> Fields:
        return dict(self._send("POST", f"content/{package}/images/{index}/export", {"package_id": new_package}))

    def order(self, kind: str, package: str) -> Fields:
        return self._ended(self._send("POST", "jobs", {"kind": kind, "package_id": package}))

    def state(self, package: str) -> Fields:
        return dict(self._get(f"packages/{package}"))

    def remove(self, package: str) -> Fields:
        return dict(self._send("DELETE", f"content/{package}"))

    def collect(self, *, delete: bool) -> Fields:
        return dict(self._send("POST", "library/gc", {"delete": delete}))

    def _ended(self, job: Fields) -> Fields:
        deadline = time.monotonic() + TIMEOUT_S
        while job["state"] not in ENDED:
            assert time.monotonic() < deadline, job
            time.sleep(LOOK_INTERVAL_S)
            job = self._get(f"jobs/{job['id']}")
        assert job["state"] == "done", job
        return dict(job)
