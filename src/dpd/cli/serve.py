# SPDX-License-Identifier: Apache-2.0
"""`dpd serve` and `dpd check-config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpd.cli.options import JsonOption
from dpd.cli.screen import print_fields, print_json

if TYPE_CHECKING:
    from dpd.settings import Settings

NAMED = "/etc/dpd/dpd.toml if it exists, else the defaults"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve", epilog="Example: dpd serve --config /etc/dpd/dpd.toml")(serve)
    app.command("check-config", epilog="Example: dpd check-config /etc/dpd/dpd.toml")(check_config)


def serve(
    config: Annotated[Path | None, typer.Option(metavar="FILE", help=f"Settings file; without it {NAMED}.")] = None,
) -> None:
    """Run the distribution point until SIGTERM; SIGHUP reloads settings and boot files."""
    settings, path = load_named(config)
    from dpd.daemon import main

    raise typer.Exit(main(settings, path))


def check_config(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help=f"Settings file; without it {NAMED}.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a settings file and show what differs from the defaults. Exit code 2 where it cannot be used."""
    settings, _ = load_named(file)
    from dpd.settings import Settings, compare_settings

    changed = {change.key: change.new for change in compare_settings(Settings(), settings)}
    refused = _refused(settings)
    if settings.bus.url:
        from dpd.bus.connection import check_bus

        check_bus(settings.bus)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins({"path": settings.path, "ok": True, "changed": changed, "refused": refused}))
        return
    print(f"{settings.path or 'defaults'}: ok, {len(changed)} settings differ from the defaults")
    if changed:
        print_fields(changed.items())
    if refused:
        print(f"Not handed out: {', '.join(refused)}; `dpd boot-file check` says why")


def _refused(settings: Settings) -> list[str]:
    """The boot files that dpd would not hand out, since their Secure Boot chain is broken. Raises SettingsError."""
    if not settings.boot.chain_manifest:
        return []
    from dpd.boot.chain_manifest import check_manifest
    from dpd.content.boot_files import BootFiles

    report = check_manifest(Path(settings.boot.chain_manifest), BootFiles(Path(settings.boot.directory)))
    return sorted(report.refused)


def load_named(path: Path | None) -> tuple[Settings, Path | None]:
    """The settings and the file to read again at a reload."""
    from dpd.settings import DEFAULT_PATH, Settings, load_settings

    if path is None:
        path = DEFAULT_PATH if DEFAULT_PATH.exists() else None
    return (Settings(), None) if path is None else (load_settings(path.absolute()), path.absolute())
