# SPDX-License-Identifier: Apache-2.0
"""The walk over a sequence: order, conditions, failures, tries, time limits, restarts and kills."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.target.stage import FACTS, PATIENCE_S, Stage, sequence_of

from dpd.errors import DpdError
from dpd.sequence.exchange import StepState
from dpd.sequence.records import Facts, StepKind
from dpd.target.run import reporting
from dpd.target.run.engine import End, Engine
from dpd.target.run.reporting import Reporter
from dpd.target.work.state import StateFile
from dpd.target.work.work import RestartAsked, Work


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "SIGN_OF_LIFE_S", 0.05)


class Killed(BaseException):
    """kill -9, as far as the walk can tell."""


@dataclass
class Play:
    """Steps that are played: each command line is a word that says what becomes of it."""

    home: Path
    facts: Facts = FACTS
    variables: Mapping[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    kill_at: str = ""
    on_step: Callable[[str, Work], None] = lambda name, work: None

    def __post_init__(self) -> None:
        self.stage = Stage(self.home, facts=self.facts, variables=self.variables)
        self.file = StateFile(self.home / "run.json")

    def run(self, text: str) -> End:
        sequence = sequence_of(text)
        stage = self.stage
        reporter = Reporter(stage.desk.report, stage.state, self._keep, stage.variables.mask)
        steps = dict.fromkeys(StepKind, self._do)
        self.engine = Engine(sequence, steps, stage.work, reporter, self._keep, stage.shown.append)
        stage.programs._check = self.engine.check
        reporter.start()
        try:
            end = self.engine.run()
            assert reporter.flush(PATIENCE_S)
            return end
        finally:
            reporter.stop()

    def again(self, text: str) -> End:
        """After a kill or a restart: another process, that knows what is on the disk."""
        state = self.file.load()
        assert state is not None
        desk = self.stage.desk
        self.stage = Stage(self.home, facts=self.facts, variables=self.variables)
        self.stage.state, self.stage.desk = state, desk
        self.kill_at = ""
        return self.run(text)

    def _keep(self) -> None:
        self.file.save(self.stage.state)

    def _do(self, work: Work) -> str:
        command = work.text("command")
        self.done.append(command)
        self.on_step(command, work)
        if command == self.kill_at:
            raise Killed
        if command.startswith("fail"):
            raise DpdError(f"{command} did not work")
        if command.startswith("restart"):
            _, _, volume = command.removeprefix("restart").strip().rpartition(" ")
            is_network = "network" in command
            raise RestartAsked("network" if is_network else "disk", volume.replace("network", ""))
        if command == "bug":
            raise ZeroDivisionError
        if command == "disk full":
            raise OSError(28, "No space left on device", "/mnt/x")
        return f"{command} well"


def command(name: str, **keys: object) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'[[step]]\nname = "{name}"\ndo = "run_command_line"\ncommand = "{name}"\n{more}'


def inner(name: str, **keys: object) -> str:
    return command(name, **keys).replace("[[step]]", "[[step.step]]")


def group(name: str, *members: str, **keys: object) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'[[step]]\nname = "{name}"\n{more}' + "".join(members)


def test_steps_run_in_order_and_each_is_told(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("a") + group("g", inner("b"), inner("c")) + command("d")) is End.DONE
    assert play.done == ["a", "b", "c", "d"]
    assert play.stage.desk.states() == [
        ("1", "started"), ("1", "done"), ("2.1", "started"), ("2.1", "done"), ("2.2", "started"), ("2.2", "done"),
        ("3", "started"), ("3", "done"), ("", "sequence_done"),
    ]  # fmt: skip
    assert play.stage.desk.message("1", StepState.DONE) == "a well"
    assert play.stage.shown[0] == "step 1 of 4: a"


def test_the_first_failure_ends_the_sequence_with_what_and_where(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("a") + command("fail b") + command("c")) is End.FAILED
    assert play.done == ["a", "fail b"]
    assert play.stage.desk.states()[-2:] == [("2", "failed"), ("", "sequence_failed")]
    assert play.stage.desk.message("", StepState.SEQUENCE_FAILED) == "step 2 fail b: fail b did not work"


def test_a_step_that_continues_on_error_holds_nothing_up(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("fail a", continue_on_error="true") + command("b")) is End.DONE
    assert play.done == ["fail a", "b"]
    assert ("1", "failed") in play.stage.desk.states()


def test_a_group_fails_with_its_member_and_the_sequence_goes_on_behind_it_where_it_may(tmp_path: Path) -> None:
    text = group("g", inner("fail a"), inner("b"), continue_on_error="true") + command("c")
    play = Play(tmp_path)
    assert play.run(text) is End.DONE
    assert play.done == ["fail a", "c"]
    assert Play(tmp_path / "other").run(text.replace("continue_on_error = true\n", "")) is End.FAILED


def test_conditions_are_asked_when_it_is_their_turn(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        if name == "a":
            work.set_variable("Room", "12")

    text = command("a") + command("b", condition='{ variable = "room", equals = "12" }')
    text += command("c", condition='{ variable = "room", equals = "13" }')
    text += group("g", inner("d"), inner("e"), condition='{ hardware = "ram_bytes", at_least = "1TiB" }')
    play = Play(tmp_path, on_step=on_step)
    assert play.run(text) is End.DONE
    assert play.done == ["a", "b"]
    skipped = [(each.step, each.message) for each in play.stage.desk.reports if each.state is StepState.SKIPPED]
    assert skipped == [
        ("3", "its condition does not hold"),
        ("4.1", "group g: its condition does not hold"),
        ("4.2", "group g: its condition does not hold"),
    ]


def test_files_of_a_volume_are_a_condition(tmp_path: Path) -> None:
    play = Play(tmp_path)
    (play.stage.add_folder("root") / "hello").write_text("")
    text = command("a", condition='{ file = "root:/hello" }') + command("b", condition='{ folder = "root:/hello" }')
    assert play.run(text) is End.DONE
    assert play.done == ["a"]


def test_disabled_ones_are_passed_by(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("a", enabled="false") + command("b")) is End.DONE
    assert play.done == ["b"]
    assert play.stage.desk.states()[0] == ("1", "skipped")


def test_a_step_is_tried_again_as_often_as_it_says(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("fail a", retries=2, retry_delay_s=0)) is End.FAILED
    assert play.done == ["fail a"] * 3
    assert [state for _, state in play.stage.desk.states()] == ["started"] * 3 + ["failed", "sequence_failed"]
    assert [each.message for each in play.stage.desk.reports][1] == "try 2: the one before failed: fail a did not work"


def test_a_try_that_works_ends_the_tries(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        if len(play.done) < 2:
            raise DpdError("not yet")

    play = Play(tmp_path, on_step=on_step)
    assert play.run(command("a", retries=5, retry_delay_s=0)) is End.DONE
    assert play.done == ["a", "a"]


def test_a_step_that_takes_too_long_fails_with_its_limit(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        work.programs.run("sleep", "1000")

    play = Play(tmp_path, on_step=on_step)
    assert play.run(command("a", time_limit_s=1)) is End.FAILED
    assert play.stage.desk.message("1", StepState.FAILED) == "took longer than its time_limit_s of 1 s"


def test_a_sequence_that_takes_too_long_ends(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        work.programs.run("sleep", "1000")

    play = Play(tmp_path, on_step=on_step)
    assert play.run("time_limit_s = 1\n" + command("a", continue_on_error="true") + command("b")) is End.FAILED
    assert play.done == ["a"]
    assert "longer than its 1 s" in play.stage.desk.message("", StepState.SEQUENCE_FAILED)


def test_the_time_before_a_kill_counts(tmp_path: Path) -> None:
    play = Play(tmp_path)
    play.stage.state.spent_s = 100.0
    assert play.run("time_limit_s = 50\n" + command("a")) is End.FAILED
    assert play.done == []


def test_cancelled_by_the_site_it_ends_in_the_middle_of_a_step(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        play.stage.desk.cancel = "by admin: wrong room"
        work.programs.run("sleep", "1000")

    play = Play(tmp_path, on_step=on_step)
    assert play.run(command("a", continue_on_error="true", retries=3) + command("b")) is End.CANCELLED
    assert play.done == ["a"]
    assert play.stage.desk.states()[-1] == ("", "cancelled")
    assert play.stage.desk.message("", StepState.CANCELLED) == "by admin: wrong room"


def test_after_a_kill_it_goes_on_with_the_step_in_which_it_was(tmp_path: Path) -> None:
    text = (
        command("a") + group("g", inner("b"), inner("c"), condition='{ variable = "x", exists = false }') + command("d")
    )
    play = Play(tmp_path, kill_at="c")
    with pytest.raises(Killed):
        play.run(text)
    assert play.again(text) is End.DONE
    assert play.done == ["a", "b", "c", "c", "d"]
    numbers = [each.number for each in play.stage.desk.reports]
    assert numbers == list(range(1, len(numbers) + 1))
    tries = [each.message for each in play.stage.desk.reports if (each.step, each.state) == ("2.2", StepState.STARTED)]
    assert tries == ["", "try 2: the one before was interrupted"]


def test_a_groups_condition_is_not_asked_again_after_a_kill(tmp_path: Path) -> None:
    def on_step(name: str, work: Work) -> None:
        if name == "b":
            work.set_variable("x", "now there")

    text = group("g", inner("b"), inner("c"), condition='{ variable = "x", exists = false }')
    play = Play(tmp_path, kill_at="c", on_step=on_step)
    with pytest.raises(Killed):
        play.run(text)
    assert play.again(text) is End.DONE
    assert play.done == ["b", "c", "c"]


def test_killed_between_a_failure_and_the_end_it_does_not_go_on_behind_it(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("fail a") + command("b")) is End.FAILED
    assert play.again(command("fail a") + command("b")) is End.FAILED
    assert play.done == ["fail a"]


def test_a_step_that_takes_the_machine_down_each_time_is_given_up(tmp_path: Path) -> None:
    text = command("a", retry_delay_s=0)
    play = Play(tmp_path, kill_at="a")
    with pytest.raises(Killed):
        play.run(text)
    for _ in range(3):
        state = play.file.load()
        assert state is not None
        play.stage.state = state
        with pytest.raises(Killed):
            play.run(text)
    assert play.again(text) is End.FAILED
    assert play.done == ["a"] * 4
    assert "was interrupted 4 times" in play.stage.desk.message("1", StepState.FAILED)


def test_a_restart_that_goes_on_elsewhere_is_told_and_the_rest_runs_behind_it(tmp_path: Path) -> None:
    text = command("a") + command("restart root") + command("b")
    play = Play(tmp_path)
    assert play.run(text) is End.RESTART
    assert play.engine.restart is not None
    assert play.engine.restart.resume_volume == "root"
    assert play.stage.desk.states()[-1] == ("2", "restarting")
    assert play.again(text) is End.DONE
    assert play.done == ["a", "restart root", "b"]
    assert play.stage.desk.states()[-4:] == [("2", "done"), ("3", "started"), ("3", "done"), ("", "sequence_done")]


def test_a_restart_with_nothing_behind_it_ends_the_sequence(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("a") + command("restart") + command("off", enabled="false")) is End.DONE
    assert play.engine.restart is not None
    assert play.stage.desk.states()[-2:] == [("2", "done"), ("", "sequence_done")]


@pytest.mark.parametrize("restart", ["restart", "restart network", "restart network root"])
def test_a_restart_behind_which_steps_would_wait_for_ever_is_a_failure(tmp_path: Path, restart: str) -> None:
    play = Play(tmp_path)
    assert play.run(command(restart) + command("b")) is End.FAILED
    assert play.done == [restart]
    assert "resume_volume" in play.stage.desk.message("1", StepState.FAILED)


def test_a_restart_that_cannot_go_on_fails_its_step(tmp_path: Path) -> None:
    text = command("restart root") + command("b")
    play = Play(tmp_path)
    assert play.run(text) is End.RESTART
    assert play.engine.fail_restart("the new system has no python3") is End.FAILED
    assert play.stage.state.failure == "step 1 restart root: the new system has no python3"


@pytest.mark.parametrize(
    ("name", "said"),
    [("bug", "ZeroDivisionError in run_command_line"), ("disk full", "/mnt/x: No space left on device")],
)
def test_what_nobody_thought_of_ends_the_run_in_order(tmp_path: Path, name: str, said: str) -> None:
    play = Play(tmp_path)
    assert play.run(command(name)) is End.FAILED
    assert said in play.stage.desk.message("1", StepState.FAILED)
    assert "Traceback" in play.stage.told()


@pytest.mark.parametrize(
    ("key", "facts", "said"),
    [
        ('architectures = ["arm64"]\n', FACTS, "this machine is x64, the sequence is for arm64"),
        (
            'firmware = ["uefi"]\n',
            dataclasses.replace(FACTS, firmware="bios"),
            "started by bios, the sequence is for uefi",
        ),
    ],
)
def test_a_sequence_for_other_machines_touches_nothing(tmp_path: Path, key: str, facts: Facts, said: str) -> None:
    play = Play(tmp_path, facts=facts)
    assert play.run(key + command("a")) is End.FAILED
    assert play.done == []
    assert said in play.stage.desk.message("", StepState.SEQUENCE_FAILED)


def test_how_the_last_step_ended_is_a_variable(tmp_path: Path) -> None:
    text = command("fail a", continue_on_error="true")
    text += command("b", condition='{ variable = "_DPDLastActionSucceeded", equals = "false" }')
    text += command("c", condition='{ variable = "_DPDLastActionSucceeded", equals = "true" }')
    play = Play(tmp_path)
    assert play.run(text) is End.DONE
    assert play.done == ["fail a", "b", "c"]


def test_a_condition_that_cannot_be_judged_is_told(tmp_path: Path) -> None:
    play = Play(tmp_path)
    assert play.run(command("a", condition='{ file = "/%nothing%/x" }')) is End.FAILED
    assert "its condition cannot be judged: %nothing%" in play.stage.desk.message("1", StepState.FAILED)
    assert "its condition cannot be judged: %nothing%" in play.stage.desk.message("", StepState.SEQUENCE_FAILED)


def test_one_whose_condition_cannot_be_judged_has_failed_and_what_may_go_on_does(tmp_path: Path) -> None:
    unknown = '{ file = "/%nothing%/x" }'
    text = command("a", condition=unknown, continue_on_error="true")
    text += group("g", inner("b"), condition=unknown, continue_on_error="true") + command("c")
    play = Play(tmp_path)
    assert play.run(text) is End.DONE
    assert play.done == ["c"]
