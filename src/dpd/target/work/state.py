# SPDX-License-Identifier: Apache-2.0
"""Where a run is, in one file that is written anew after each step: whoever was killed or restarted goes on from there.

The file has the secrets of the run, so nobody but root reads it; it goes away when the run ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dpd.errors import ContentCorrupt, ContentError, MalformedMessage
from dpd.sequence.exchange import Report, from_tree
from dpd.sequence.variables import Variable
from dpd.target.work.whole_file import replacing

FORMAT = "dpd-run/1"
NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition that a step made, by the name that the sequence gave it. `partition_uuid` and `uuid`, that of the file system,
    find it again after a restart."""

    name: str
    disk: str
    number: int
    device: str
    kind: str = "data"
    format: str = ""
    partition_uuid: str = ""
    uuid: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """Content that is here, verified. `volume` "": in memory."""

    package: str
    version: int
    path: str
    volume: str = ""


@dataclass(slots=True)
class State:
    """Everything that a run needs to go on. `outcomes` are the ends of steps and groups by id."""

    server: str
    execution: str
    resume: str = field(repr=False)
    document: str = field(repr=False)
    variables: list[Variable] = field(default_factory=list)
    built_in: dict[str, str] = field(default_factory=dict)
    runtime: list[Variable] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)
    dirty: list[str] = field(default_factory=list)  # volumes into which an image was begun
    received: list[Received] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)  # not yet with the site
    next_number: int = 1
    spent_s: float = 0.0
    failure: str = ""
    system_volume: str = ""  # the one that got an operating system last
    root_volume: str = ""  # the volume that runs, after a restart into it


class StateFile:
    """The file. Each verb raises ContentError; `load` raises ContentCorrupt, too."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def save(self, state: State) -> None:
        """All of it or nothing, and on the disk when this returns."""
        waiting = [asdict(each) for each in list(state.reports)]  # another thread takes out what the site has
        tree = {"format": FORMAT, **asdict(replace(state, reports=[])), "reports": waiting}
        content = json.dumps(tree, ensure_ascii=True).encode("ascii")
        try:
            self.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(self.place, 0o600) as file:
                file.write(content)
            _sync_folder(self.place.parent)
        except OSError as error:
            raise ContentError(f"{self.place}: cannot be written: {error.strerror}") from None

    def load(self) -> State | None:
        """None where no run was under way."""
        try:
            content = self.place.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ContentError(f"{self.place}: cannot be read: {error.strerror}") from None
        try:
            return _state(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError, MalformedMessage) as error:
            raise ContentCorrupt(
                f"{self.place}: is no state of a run ({error}); remove it and boot this machine over the network again"
            ) from None

    def remove(self) -> None:
        self.place.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _state(tree: Mapping[str, Any]) -> State:
    if tree["format"] != FORMAT:
        raise ValueError(f"format {tree['format']!r}, expected {FORMAT!r}")
    known = {each.name for each in fields(State)}
    state = State(**{key: value for key, value in tree.items() if key in known})
    state.variables = [from_tree(Variable, each) for each in tree["variables"]]
    state.runtime = [from_tree(Variable, each) for each in tree["runtime"]]
    state.reports = [from_tree(Report, each) for each in tree["reports"]]
    state.volumes = [Volume(**each) for each in tree["volumes"]]
    state.received = [Received(**each) for each in tree["received"]]
    return state
