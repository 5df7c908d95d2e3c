# SPDX-License-Identifier: Apache-2.0
"""Each command is found by its name, and no other is read for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main
from tests.cli.conftest import Dpd

from dpd.cli import app
from dpd.cli.parts import PARTS

ROOT = typer.main.get_group(app)


@pytest.mark.parametrize("name", PARTS)
def test_the_name_in_the_table_is_that_of_the_command(name: str) -> None:
    assert ROOT.commands[name].name == name


def test_the_modules_of_other_commands_are_not_read() -> None:
    script = (
        "import sys\nfrom dpd.cli import main\n"
        "try: main(['status', '--socket', '/nowhere'])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('dpd.cli.')))"
    )
    read = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    parts = {f"dpd.cli.{module}" for modules in PARTS.values() for module in modules}
    assert parts & set(read) == {"dpd.cli.status", "dpd.cli.session"}  # the status lists sessions


def test_a_name_that_nearly_is_one_is_told_the_right_one(dpd: Dpd) -> None:
    ended = dpd("contnt")
    assert ended.code == 2
    assert "'content'" in ended.err
