# SPDX-License-Identifier: Apache-2.0
"""What a step has to work with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dpd.sequence.records import Facts, Step
from dpd.sequence.variables import Variables
from dpd.target.distribution_point.desk import Desk
from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.program import Programs
from dpd.target.work.state import State
from dpd.target.work.volumes import Volumes

if TYPE_CHECKING:  # all of multicast comes with it, and many steps need none
    from dpd.target.work.content import ContentSource


class RestartAsked(Exception):
    """The step is done when the machine has restarted; `resume_volume`: where the run goes on, "" where it ends here."""

    def __init__(self, to: str, resume_volume: str = "") -> None:
        super().__init__(to)
        self.to = to
        self.resume_volume = resume_volume


@dataclass(slots=True)
class Rate:
    """Bits per second over what came since a step began."""

    _began_at: float = field(default_factory=time.monotonic)
    _began_bytes: int = -1

    def of(self, done_bytes: int) -> int:
        if self._began_bytes < 0:
            self._began_bytes = done_bytes
        return max(0, int((done_bytes - self._began_bytes) * 8 / max(time.monotonic() - self._began_at, 0.001)))


@dataclass(slots=True)
class Work:
    """One step's surroundings. `open_content` gives what `content` is. `room` is a folder in memory; `check` raises when the step is to end; `progress` takes the bytes
    that are done, those in all, and a word."""

    step: Step
    state: State
    variables: Variables
    facts: Facts
    programs: Programs
    volumes: Volumes
    open_content: Callable[[], ContentSource]
    desk: Desk | None
    log: ExecutionLog
    room: Path
    home: Path
    check: Callable[[], object] = lambda: None
    progress: Callable[[int, int, str], object] = lambda done, total, message: None
    show: Callable[[str], object] = lambda text: None
    keep: Callable[[], object] = lambda: None
    _content: ContentSource | None = None

    @property
    def content(self) -> ContentSource:
        if self._content is None:
            self._content = self.open_content()
        return self._content

    @content.setter
    def content(self, content: ContentSource) -> None:
        self._content = content

    def text(self, key: str) -> str:
        """A key with its variables put in."""
        return self.variables.substitute(self.step.text(key))

    def texts(self, key: str) -> list[str]:
        return [self.variables.substitute(each) for each in self.step.texts(key)]

    def set_variable(self, name: str, value: str, is_secret: bool = False) -> None:
        """For this step and those behind it, also after a restart. Raises VariableError."""
        self.variables.put(name, value, secret=is_secret)
        kept = next(each for each in self.variables if each.name.lower() == name.lower())
        self.state.runtime[:] = [each for each in self.state.runtime if each.name.lower() != name.lower()] + [kept]

    def watch_bytes(self, done_bytes: int, total_bytes: int, way: str) -> None:
        """Progress of content that arrives."""
        self.check()
        self.progress(done_bytes, total_bytes, f"by {way}")
