# SPDX-License-Identifier: Apache-2.0
"""One run with all that belongs to it: state, variables, log, reporter, programs, volumes, engine; and its end in order."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dpd.errors import DpdError
from dpd.sequence.records import Facts, Step, TaskSequence
from dpd.sequence.variables import Variable, Variables, merge
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.distribution_point.desk import Desk
from dpd.target.run import restarting
from dpd.target.run.engine import End, Engine
from dpd.target.run.reporting import Reporter
from dpd.target.steps import STEPS
from dpd.target.work.execution_log import ExecutionLog
from dpd.target.work.program import Programs
from dpd.target.work.state import State, StateFile
from dpd.target.work.volumes import Volumes
from dpd.target.work.work import Rate, Work

if TYPE_CHECKING:
    from dpd.target.work.content import ContentSource

LOG_PATIENCE_S = 60.0


class Run:
    """`run`, then `finish`. `work` is a folder in memory, or after a restart one on the disk."""

    def __init__(
        self,
        sequence: TaskSequence,
        state: State,
        file: StateFile,
        desk: Desk,
        facts: Facts,
        home: Path,
        work: Path,
        ca_file: str,
        public_key: bytes | None,
        show: Callable[[str], object],
    ) -> None:
        self._state, self._file, self._desk, self._facts = state, file, desk, facts
        self._home, self._work, self._show = home, work, show
        self._running_volume = state.root_volume
        self.variables = _variables(sequence, state, facts)
        self.log = ExecutionLog(work / restarting.LOG, self.variables.mask)
        self.programs = Programs(self.log, self._check)
        self._volumes = Volumes(state, self.programs, work / "volumes")
        self._reporter = Reporter(desk.report, state, self._keep, self.variables.mask)
        self._ca_file, self._public_key = ca_file, public_key
        self._engine = Engine(sequence, STEPS, self._surroundings, self._reporter, self._keep, self._tell_screen)

    @property
    def wants_restart(self) -> bool:
        """Whether the sequence ended by a restart."""
        return self._engine.restart is not None

    def run(self) -> End:
        """Walk to the end. Everything is unmounted then, and the state lies where the run goes on."""
        self.log.write(
            f"execution {self._state.execution} at {self._state.server}, on {self._facts.vendor} {self._facts.model}".rstrip()
        )
        self._volumes.release_left()
        self._reporter.start()
        try:
            end = self._engine.run()
            if end is End.RESTART:
                end = self._move_into_new_system()
        finally:
            self._volumes.release_all()
        return end

    def finish(self, end: End, patience_s: float) -> bool:
        """Tell the site what is left to tell, the log too unless all went well. Whether it has everything."""
        if not self._reporter.flush(patience_s) and not self._reporter.refused:
            self._show("the distribution point does not answer; it is told later, or never")
        is_told = not self._state.reports or bool(self._reporter.refused)
        if end in (End.FAILED, End.CANCELLED) and is_told:
            self._send_log()
        self._reporter.stop()
        return is_told

    def leave_the_telling(self) -> bool:
        """What the site could not be told, the new system tells it: else the machine would be deployed once more. Whether it can."""
        try:
            volume = self._volumes.find(self._state.system_volume)
            root = self._volumes.folder(volume.name)
            self._state.root_volume = volume.name
            restarting.install(root, self._state, self.log, self._home, Path(sys.argv[0]))
        except (DpdError, OSError) as error:
            self._state.root_volume = self._running_volume
            self._show(f"the new system cannot tell it either: {error}")
            return False
        finally:
            self._volumes.release_all()
        return True

    def _move_into_new_system(self) -> End:
        """The state goes to the volume that starts next. A system that cannot take it fails the run."""
        restart = self._engine.restart
        assert restart is not None
        try:
            volume = self._volumes.find(restart.resume_volume)
            if volume.name == self._running_volume:
                self._keep()
                return End.RESTART  # it is there already
            root = self._volumes.folder(volume.name)
            self._state.root_volume = volume.name  # from here on that is what runs
            restarting.install(root, self._state, self.log, self._home, Path(sys.argv[0]))
            self._file.remove()
        except (DpdError, OSError) as error:
            self._state.root_volume = self._running_volume
            return self._engine.fail_restart(str(error))
        return End.RESTART

    def _send_log(self) -> None:
        until = time.monotonic() + LOG_PATIENCE_S
        while True:
            try:
                self._desk.put_log(self._state.execution, self.log.text())
            except Unreachable as error:
                if time.monotonic() > until:
                    self._show(f"the log could not be sent: {error}")
                    return
                time.sleep(1.0)
            except DpdError as error:
                self._show(f"the log could not be sent: {error}")
                return
            else:
                return

    # ----

    def _check(self) -> None:
        self._engine.check()

    def _open_content(self) -> ContentSource:
        from dpd.target.work.content import ContentSource

        return ContentSource(
            self._state.server,
            ca_file=self._ca_file,
            public_key=self._public_key,
            ram_bytes=self._facts.ram_bytes,
            check=self._check,
            tell=lambda text: self.log.write(f"  {text}"),
        )

    def _keep(self) -> None:
        self._file.save(self._state)

    def _tell_screen(self, text: str) -> None:
        self._show(self.variables.mask(text))

    def _surroundings(self, step: Step) -> Work:
        rate = Rate()

        def progress(done_bytes: int, total_bytes: int, message: str) -> None:
            self._reporter.progress(step.id, done_bytes, total_bytes, rate.of(done_bytes), message)

        return Work(
            step=step,
            state=self._state,
            variables=self.variables,
            facts=self._facts,
            programs=self.programs,
            volumes=self._volumes,
            open_content=self._open_content,
            desk=self._desk,
            log=self.log,
            room=self._work / "content",
            home=self._home,
            check=self._check,
            progress=progress,
            show=self._tell_screen,
            keep=self._keep,
        )


def _variables(sequence: TaskSequence, state: State, facts: Facts) -> Variables:
    """The sequence's own, then the site's, then what steps have set, and what documents only read."""
    own = [Variable(name, value) for name, value in sequence.variables]
    variables = Variables(merge(own, state.variables, state.runtime))
    for each in (*state.variables, *state.runtime):
        if each.secret:  # a value that was overwritten is in the log still
            variables.put(each.name, each.value, secret=True)
    built_in = {
        "_DPDArchitecture": facts.architecture,
        "_DPDFirmware": facts.firmware,
        "_DPDGuid": facts.guid,
        "_DPDMac": facts.macs[0] if facts.macs else "",
        "_DPDModel": facts.model,
        "_DPDRamBytes": str(facts.ram_bytes),
        "_DPDSerial": facts.serial,
        "_DPDVendor": facts.vendor,
    }
    for name, value in (built_in | state.built_in).items():
        variables.put_built_in(name, value)
    return variables
