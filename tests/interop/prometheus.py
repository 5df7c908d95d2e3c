# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus that scrapes daemons every second and evaluates dpd's rules."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

PATIENCE_S = 120.0

_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: dpd
    static_configs: [{{targets: [{targets}]}}]
"""


class Prometheus:
    """A context manager; inside it is ready. What it stores lies in `folder` and goes with that."""

    def __init__(self, folder: Path, rules: Path, *metrics_ports: int) -> None:
        self._folder = folder
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in metrics_ports)
        config = _CONFIG.format(rules=rules, targets=targets)
        (folder / "prometheus.yml").write_text(config, encoding="utf-8")

    def __enter__(self) -> Self:
        self._url = f"http://127.0.0.1:{_free_port()}"
        command = [
            "prometheus",
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/tsdb",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self._process.poll() is None, "prometheus ended"
            assert time.monotonic() < deadline, "prometheus is not ready"
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except (URLError, ConnectionError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now; raises AssertionError for one that is wrong."""
        found = self._ask("query", query=expression)
        assert found["resultType"] in ("vector", "scalar"), expression
        return list(found["result"])

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alert rules by name, as they were evaluated last."""
        groups = self._ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Until an expression has a series."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression} has no data"
            time.sleep(0.3)
        return found

    def _ask(self, what: str, **query: str) -> dict[str, Any]:
        with urlopen(f"{self._url}/api/v1/{what}?{urlencode(query)}", timeout=30) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return dict(answer["data"])


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
