# SPDX-License-Identifier: Apache-2.0
"""How things look: nothing is cut in a pipe, no text is taken for markup."""

from __future__ import annotations

import io
import sys

import pytest

from dpd.cli.screen import follow_job, moment, print_fields, print_json, print_table, progress_bar, size


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (7 << 30, "7.0 GiB"), (9 << 40, "9.0 TiB"), (2 << 50, "2048.0 TiB")],
)  # fmt: skip
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_pipe_gets_every_cell_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    print_table(("NAME", "N>"), [(long, 1), ("[red]y[/red]", 22)], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [long, "1"]
    assert lines[2].split() == ["[red]y[/red]", "22"]
    assert lines[1].rstrip()[-1] == "1"
    assert len(lines[1].rstrip()) == len(lines[2].rstrip())


def test_fields_are_no_markup_either(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("Path", "/a/[b]/" + "c" * 200)])
    assert capsys.readouterr().out.split() == ["Path", "/a/[b]/" + "c" * 200]


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [], empty="There is nothing.")
    assert capsys.readouterr().out == "There is nothing.\n"


def test_json_keeps_every_letter(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Bär"})
    assert capsys.readouterr().out == '{"name": "Bär"}\n'


def test_moments_are_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment(0)[:3] in ("197", "196")
    assert len(moment(1_700_000_000.9)) == len("2023-11-14 22:13:20")


def test_a_pipe_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(quiet=False) as bar:
        bar("sending", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(quiet=False) as bar:
        bar("sending", 10, 10)
        bar("publishing", 5, 10)
    assert "sending" in terminal.getvalue()
    assert "publishing" in terminal.getvalue()


def test_a_jobs_progress_is_shown_and_its_last_line_is_what_it_brings() -> None:
    shown: list[tuple[str, int, int]] = []
    lines = [{"progress": {"done_bytes": n, "total_bytes": 2}} for n in (1, 2)] + [{"content": {"name": "x"}}]
    assert follow_job(lines, "adding", lambda stage, done, total: shown.append((stage, done, total))) == {"name": "x"}
    assert shown == [("adding", 1, 2), ("adding", 2, 2)]
