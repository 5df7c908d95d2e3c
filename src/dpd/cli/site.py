# SPDX-License-Identifier: Apache-2.0
"""`dpd site …`: a site as one file under version control, and the server of a site of many distribution points."""

from __future__ import annotations

import typer

from dpd.cli import site_serve

app = typer.Typer(help="The site as a whole: plan, apply, export, serve.", no_args_is_help=True, rich_markup_mode=None)
site_serve.register(app)
