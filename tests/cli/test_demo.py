# SPDX-License-Identifier: Apache-2.0
"""`dpd demo`: its words; what it does is in test_demo_run."""

from __future__ import annotations

from typer.testing import CliRunner

from dpd.cli import app


def test_help_shows_an_example() -> None:
    shown = CliRunner().invoke(app, ["demo", "--help"])
    assert shown.exit_code == 0
    assert "Example: dpd demo --image install.wim --receivers 8" in " ".join(shown.output.split())


def test_an_image_that_is_missing_is_named() -> None:
    shown = CliRunner().invoke(app, ["demo", "--image", "/no/such.wim"])
    assert shown.exit_code == 2
    assert "/no/such.wim" in shown.output
