# SPDX-License-Identifier: Apache-2.0
"""The commands by name, each read and built when it is asked for: all hundred and thirty together take longer to build than
most of them take to run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer.core
import typer.main

# A command's name and the modules of this package that it is made of, in the order of `dpd --help`. The first has an `app`,
# which is a group of commands, to which the others add theirs by `register(app)`; or it has that alone.
PARTS = {
    "serve": ("serve",),
    "check-config": ("serve",),
    "receive": ("receive",),
    "mc-test": ("mc_test",),
    "status": ("status",),
    "events": ("events",),
    "demo": ("demo",),
    "content": ("content", "distribution", "wim"),
    "root": ("root",),
    "source": ("source",),
    "bundle": ("bundle",),
    "validation": ("validation",),
    "job": ("job",),
    "maintenance": ("maintenance",),
    "sequence": ("sequence",),
    "boot-file": ("boot_file",),
    "boot-image": ("boot_image",),
    "session": ("session",),
    "pxe": ("pxe", "pxe_approval"),
    "computer": ("computer",),
    "deployment": ("deployment",),
    "deploy": ("deploy",),
    "collection": ("collection",),
    "boundary": ("boundary",),
    "policy": ("policy",),
    "site": ("site",),
    "point": ("point",),
    "bus": ("bus",),
    "token": ("token",),
}


class Front(typer.core.TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": _Commands()})


class _Commands(Mapping[str, Any]):
    """What typer asks for names, and for the command of one of them."""

    def __getitem__(self, name: str) -> Any:
        if name not in PARTS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(PARTS)

    def __len__(self) -> int:
        return len(PARTS)


@functools.cache
def _command(name: str) -> Any:
    first, *more = (import_module(f"dpd.cli.{module}") for module in PARTS[name])
    holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    group = getattr(first, "app", None)
    if group is None:
        first.register(holder)
    else:
        holder.add_typer(group, name=name)
    for module in more:
        module.register(group)
    return typer.main.get_group(holder).commands[name]
