# SPDX-License-Identifier: Apache-2.0
"""The probe's command line, and what its files say of scapy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dpd_probe
from dpd_probe.__main__ import main
from dpd_probe.steps import Ending

MAC = "--mac=52:54:00:00:00:01"
FOLDER = Path(dpd_probe.__file__).parent


def ended(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = main([MAC, *arguments])
    return code, json.loads(capfd.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--relay ADDRESS or --interface NAME"),
        (("--relay=127.0.0.1",), "--server ADDRESS is needed"),
        (("--relay=here", "--server=127.0.0.1"), "here: no IP address"),
        (("--relay=::1", "--server=127.0.0.1"), "::1: no IPv4 address"),
        (("--relay=127.0.0.1", "--server=127.0.0.1", "--family=6"), "no IPv6 address"),
    ],
)
def test_words_that_do_not_fit_together(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, told = ended(capfd, *arguments)
    assert (code, told["step"], told["reason"]) == (Ending.USAGE, "failed", "usage")
    assert words in str(told["detail"])


@pytest.mark.parametrize("arguments", [["--mac=pc"], [MAC, "--arch=vax"], [MAC, "--guid=1"], []])
def test_wrong_words_end_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_nobody_who_answers_is_an_ending_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    code, told = ended(capfd, "--relay=127.0.0.1", "--server=127.0.0.9", "--timeout=0.05")
    assert (code, told["reason"]) == (Ending.NO_ANSWER, "no_answer")


def test_without_scapy_the_extra_is_named(tmp_path: Path) -> None:
    """A folder of that name that cannot be imported stands before the real one."""
    (tmp_path / "scapy.py").write_text("raise ModuleNotFoundError('No module named scapy', name='scapy')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{FOLDER.parent}"}
    command = [sys.executable, "-m", "dpd_probe", MAC, "--relay=127.0.0.1", "--server=127.0.0.1"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == Ending.NO_SCAPY, run.stderr
    assert "pip install dpd[probe]" in json.loads(run.stdout)["detail"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_each_file_of_the_probe_says_with_what_it_is_used(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert "This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it" in text
