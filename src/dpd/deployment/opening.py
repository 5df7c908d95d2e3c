# SPDX-License-Identifier: Apache-2.0
"""Everything of deployments under way in one place: opened, looked over now and then, told of other settings, and ended in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from dpd.deployment.captures import Captures, Publishes
from dpd.deployment.database import open_database
from dpd.deployment.deployment_logs import DeploymentLogs
from dpd.deployment.execution_book import ExecutionBook
from dpd.deployment.metrics import DeploymentLevels, DeploymentStats, add_deployments, counting, read_deployments
from dpd.errors import DpdError
from dpd.settings import Settings
from dpd.telemetry.events import EventLog, Value
from dpd.telemetry.metrics import MetricsRegistry

log = logging.getLogger(__name__)

LOOK_S = 30.0
STOP_S = 10.0


class OpenDeployments:
    """`book` has the executions, `logs` and `captures` what they leave. `refuse_new_content` and `arrived` are as of Captures."""

    def __init__(
        self,
        settings: Settings,
        library: Publishes,
        state_dir: Path,
        events: EventLog,
        *,
        refuse_new_content: Callable[[], None] = lambda: None,
        arrived: Callable[[str], object] = lambda package_id: None,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises DeploymentError."""
        self._settings = settings
        self._events = events
        self._look_s = look_s
        self._clock = clock
        self._stats = DeploymentStats()
        tell = counting(self._note, self._stats)
        with ExitStack() as stack:
            self._database = open_database(state_dir / "deployment.db")
            stack.callback(self._database.close)
            self.book = ExecutionBook(self._database, tell=tell, clock=clock)
            self.logs = DeploymentLogs(state_dir / "deployment-logs")
            self.captures = Captures(
                self._database,
                state_dir / "captures",
                library,
                self.book.find,
                lambda: self._settings.deployment.capture_quota_gib << 30,
                tell=tell,
                refuse_new_content=refuse_new_content,
                arrived=arrived,
                clock=clock,
            )
            stack.pop_all()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._look_on, name="deployment watch", daemon=True)

    def start(self) -> None:
        """Look over what is open from now on."""
        self._watch.start()

    def apply(self, settings: Settings) -> None:
        """Other settings from now on."""
        self._settings = settings

    def stop(self) -> None:
        """Blocks until the thread has ended. Idempotent, also before `start`."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join(STOP_S)
        self._database.close()

    def add_metrics(self, registry: MetricsRegistry) -> None:
        """dpd_deployment_*."""
        add_deployments(registry, self._stats, self._levels)

    def look_over(self) -> None:
        """Once: who is silent, what is over, what may go."""
        now = self._clock()
        self.logs.forget(self.book.look_over(now))
        self.captures.look_over(now)

    def _levels(self) -> DeploymentLevels:
        return read_deployments(
            self.book.open_executions(),
            self.captures.open_captures(),
            self._clock(),
            write_failures=self.book.write_failures,
        )

    def _look_on(self) -> None:
        while not self._stopping.wait(self._look_s):
            try:
                self.look_over()
            except (DpdError, OSError) as error:
                log.error("deployments not looked over", extra={"error": str(error)})

    def _note(self, event: str, fields: Mapping[str, Value]) -> None:
        self._events.note(event, **fields)
