# SPDX-License-Identifier: Apache-2.0
"""Steps are found by the name of their kind."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tests.target.stage import Stage

from dpd.sequence.records import StepKind
from dpd.target.steps import STEPS, module_of


@pytest.mark.parametrize("kind", StepKind)
def test_each_kind_has_a_module_that_does_it(kind: StepKind) -> None:
    assert callable(import_module(module_of(kind)).run)


def test_a_step_is_done_by_its_kind(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    said = STEPS[StepKind.SET_VARIABLE](stage.work('do = "set_variable"\nvariable = "Room"\nvalue = "4711"'))
    assert said == "Room is '4711'"


def test_before_the_first_step_nothing_is_imported_that_steps_alone_need() -> None:
    """Under an emulated processor that took a second; a client for e-mail came along for an escape."""
    unwanted = {
        "dpd.target.steps.apply_os_image",
        "http.client",
        "email",
        "ssl",
        "dpd.target.work.content",
        "xml.etree.ElementTree",
    }
    program = f"import sys, dpd.target.deploy; print(sorted({unwanted!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
