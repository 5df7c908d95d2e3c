# SPDX-License-Identifier: Apache-2.0
"""`deploy`: from the boot ticket to a machine that its task sequence has made, unattended.

    python3 -I -S /dpd/dpd-target.pyz deploy

Exit codes: 0 the sequence is done and this machine goes on as it is, 1 it failed or was cancelled, 2 wrong usage, 3 there is nothing
to do, 4 the distribution point is out of reach, 10 the machine is to restart (with --no-restart; else it does), 11 what this boot was
granted counts no more: the machine is to boot over the network again. A run that was killed goes on when this is run again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from dpd.errors import DpdError
from dpd.sequence.exchange import (
    MAX_MACS,
    MAX_MESSAGE_CHARACTERS,
    Hello,
    Offer,
    Report,
    Resume,
    StepState,
    Welcome,
)
from dpd.sequence.records import Facts, SequenceError
from dpd.sequence.signed import read_signed
from dpd.target.distribution_point.connection import Refused, Unreachable
from dpd.target.distribution_point.desk import Desk, read_key
from dpd.target.distribution_point.patience import Patience
from dpd.target.run import command_line, menu, restarting
from dpd.target.run.command_line import Boot, NotBooted
from dpd.target.run.engine import End
from dpd.target.run.run import Run
from dpd.target.work import facts
from dpd.target.work.program import Programs
from dpd.target.work.state import NAME, State, StateFile

EXIT_DONE, EXIT_FAILED, EXIT_NOTHING, EXIT_UNREACHABLE, EXIT_RESTART, EXIT_BOOT_AGAIN = 0, 1, 3, 4, 10, 11
BOOT_AGAIN = frozenset(
    {"no_ticket", "ticket_expired", "session_unknown"}
)  # dpd was restarted, or this machine was slow
AGENT = "dpd-target"
CA_FILE, KEY_FILE, BOOT_FILE = "ca.pem", "signing-key", "boot"
A = TypeVar("A")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dpd-target deploy", description="Run this machine's task sequence.")
    parser.add_argument(
        "--home", type=Path, default=Path("/dpd"), help="where ca.pem and signing-key are (default /dpd)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("/run/dpd"), help="where the run is kept, in memory (default /run/dpd)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --work, and begin none")
    parser.add_argument("--no-restart", action="store_true", help=f"exit with {EXIT_RESTART} instead of restarting")
    parser.add_argument("--deployment", type=int, default=0, help="take this one of what is offered, without asking")
    parser.add_argument("--command-line", type=Path, default=command_line.PLACE, help="in place of /proc/cmdline")
    parser.add_argument(
        "--patience", type=float, default=600.0, help="seconds to wait for a distribution point (default 600)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        return Deployment(options).run()
    except KeyboardInterrupt:
        show("interrupted; run the same command again to go on")
        return 130
    except (NotBooted, menu.NothingToDo) as error:
        show(str(error))
        return EXIT_NOTHING
    except Unreachable as error:
        show(str(error))
        return EXIT_UNREACHABLE
    except Refused as error:
        show(str(error))
        return EXIT_BOOT_AGAIN if error.code in BOOT_AGAIN else EXIT_FAILED
    except DpdError as error:
        show(str(error))
        return EXIT_FAILED


def show(text: str) -> None:
    """To whoever stands before the machine."""
    print(f"dpd: {text}", flush=True)


class Deployment:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._home: Path = options.home
        self._work: Path = options.work
        self._ca_file = str(self._home / CA_FILE) if (self._home / CA_FILE).is_file() else ""
        self._file = StateFile(self._work / NAME)

    def run(self) -> int:
        """Raises DpdError."""
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        public_key = read_key(self._home / KEY_FILE)
        told = facts.gather()
        state = self._file.load()
        if state is None:
            if self._options.resume:
                raise menu.NothingToDo(f"{self._file.place}: no run is under way")
            boot = command_line.read(self._options.command_line)
            with closing(self._desk(boot.server)) as desk:
                state = self._begin(desk, boot, told)
                return self._go(desk, state, told, public_key)
        show(f"goes on with execution {state.execution}")
        with closing(self._desk(state.server)) as desk:
            desk.continue_with(Resume(state.execution, state.resume))
            return self._go(desk, state, told, public_key)

    def _desk(self, server: str) -> Desk:
        return Desk(server, self._ca_file)

    def _begin(self, desk: Desk, boot: Boot, told: Facts) -> State:
        """Say hello, choose, take."""
        welcome = self._hello(desk, boot, told)
        name = welcome.computer or welcome.machine
        offer = menu.choose(welcome.offers, input, show, self._options.deployment)
        since_start_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        show(
            f"{name}: takes {offer.name or offer.sequence}, sequence {offer.sequence} version {offer.version}, "
            f"{since_start_s:.1f} s after the kernel began"
        )
        taken = self._patiently(lambda: desk.take(offer.deployment))
        state = State(boot.server, taken.execution, taken.resume, taken.document, list(taken.variables))
        state.built_in = _built_in(boot, welcome, offer)
        self._file.save(state)
        return state

    def _hello(self, desk: Desk, boot: Boot, told: Facts) -> Welcome:
        show(f"says hello to {boot.server}")
        hello = Hello(
            proof=boot.proof,
            macs=tuple(dict.fromkeys((boot.mac, *told.macs) if boot.mac else told.macs))[:MAX_MACS],
            guid=told.guid,
            arch=told.architecture,
            firmware=told.firmware,
            agent=AGENT,
            boot=self._boot_nonce(),
            facts=facts.as_told(told),
        )
        return self._patiently(lambda: desk.hello(hello))

    def _boot_nonce(self) -> str:
        """The same for all of this boot, so that a hello whose answer was lost, or whose sender was killed, can be said again."""
        place = self._work / BOOT_FILE
        if not place.is_file():
            place.write_text(os.urandom(16).hex(), "ascii")
        return place.read_text("ascii")

    def _patiently(self, question: Callable[[], A]) -> A:
        patience = Patience(self._options.patience)
        while True:
            try:
                return question()
            except Unreachable as error:
                show(f"waiting: {error}")
                patience.wait(error)

    # ----

    def _go(self, desk: Desk, state: State, told: Facts, public_key: bytes | None) -> int:
        try:
            sequence, _ = read_signed(state.document, public_key)
        except SequenceError as error:
            self._refuse(desk, state, str(error))
            raise
        run = Run(sequence, state, self._file, desk, told, self._home, self._work, self._ca_file, public_key, show)
        end = run.run()
        is_told = run.finish(end, self._options.patience)
        if end is End.RESTART:
            return self._restart(run.programs)
        if is_told:
            self._forget(state)
        elif end is End.DONE and run.wants_restart and run.leave_the_telling():
            show("the distribution point does not answer; the new system tells it how this ended")
        else:
            show("the distribution point could not be told how it ended; its log is " + str(run.log.place))
        if end is End.DONE and run.wants_restart:
            return self._restart(run.programs)
        return EXIT_DONE if end is End.DONE else EXIT_FAILED

    def _refuse(self, desk: Desk, state: State, message: str) -> None:
        """A sequence that is not to be run: the site is told, and nothing of it stays."""
        report = Report(state.next_number, time.time(), "", StepState.SEQUENCE_FAILED, message[:MAX_MESSAGE_CHARACTERS])
        try:
            desk.report(state.execution, (report,))
        except DpdError as error:
            show(f"the distribution point could not be told: {error}")
        self._forget(state)

    def _forget(self, state: State) -> None:
        self._file.remove()
        if state.root_volume:
            restarting.uninstall(Path("/"))
        else:
            shutil.rmtree(self._work / "content", ignore_errors=True)
            (self._work / BOOT_FILE).unlink(missing_ok=True)  # what this boot was granted has been used

    def _restart(self, programs: Programs) -> int:
        if self._options.no_restart:
            return EXIT_RESTART
        show("restarts")
        restarting.restart(programs)
        time.sleep(60)  # until the kernel has ended everything, this too
        return EXIT_RESTART


def _built_in(boot: Boot, welcome: Welcome, offer: Offer) -> dict[str, str]:
    return {
        "_DPDServer": boot.server,
        **({"_DPDMac": boot.mac} if boot.mac else {}),
        "_DPDComputer": welcome.computer,
        "_DPDMachine": welcome.machine,
        "_DPDDeployment": str(offer.deployment),
        "_DPDSequence": offer.sequence,
        "_DPDVersion": str(offer.version),
    }


if __name__ == "__main__":
    sys.exit(main())
