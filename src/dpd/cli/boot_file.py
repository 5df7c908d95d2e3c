# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-file …`: the loaders in the boot directory, who signed them, and the Secure Boot chain. Reads files, no daemon."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpd.cli.options import JsonOption
from dpd.cli.screen import print_json, print_table, size
from dpd.cli.serve import NAMED, load_named
from dpd.errors import ContentError, SettingsError

if TYPE_CHECKING:
    from dpd.boot.chain import ChainReport, Found
    from dpd.content.boot_files import BootFile, BootFiles

app = typer.Typer(
    help="Look into the loaders of the boot directory and their Secure Boot chain.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help=f"Settings file; without it {NAMED}.")]
DirectoryOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Boot directory; without it that of the settings.")
]
LoadsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="A=B", help="A loads B; shims and their second stage are known by themselves."),
]


@app.command("list", epilog="Example: dpd boot-file list")
def list_files(config: ConfigOption = None, directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """List the boot files: for which machines, signed by whom, which SBAT generations."""
    from dpd.boot.chain import read_found

    boot_files = _boot_files(config, directory)
    found = [(file, read_found(boot_files, file)) for file in boot_files.files()]
    if as_json:
        files = [_described(file, each) for file, each in found]
        print_json({"directory": str(boot_files.directory), "files": files})
        return
    print_table(
        ("FILE", "SIZE>", "FOR", "SIGNED BY", "ISSUED BY", "SBAT"),
        (row for file, each in found for row in _rows(file, each)),
        empty=f"No boot files in {boot_files.directory}.",
    )


@app.command(epilog="Example: dpd boot-file check")
def check(
    config: ConfigOption = None,
    directory: DirectoryOption = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Manifest; without it boot.chain_manifest of the settings.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the Secure Boot chain as dpd does at its start. Exit code 1 where something of it would not be handed out."""
    from dpd.boot.chain_manifest import check_manifest

    path = manifest or _named_manifest(config)
    report = check_manifest(path.absolute(), _boot_files(config, directory))
    if as_json:
        print_json(report_fields(report))
    else:
        rows = ((finding.file, finding.fault.value, finding.detail) for finding in report.findings)
        print_table(("FILE", "FAULT", "DETAILS"), rows, empty=f"{path}: the chain is sound.")
        if report.refused:
            print("Not handed out: " + ", ".join(sorted(report.refused)))
    raise typer.Exit(1 if report.findings else 0)


@app.command(epilog="Example: dpd boot-file manifest --loads grubx64.efi=vmlinuz --output /etc/dpd/chain.toml")
def manifest(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Boot files; without them every .efi file.")
    ] = None,
    loads: LoadsOption = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write; without it: print.")] = None,
    config: ConfigOption = None,
    directory: DirectoryOption = None,
) -> None:
    """Make the manifest of a chain that works, from the files as they are now."""
    from dpd.boot.chain import check_chain
    from dpd.boot.chain_manifest import format_manifest, make_chain
    from dpd.boot.revocations import Revocations

    boot_files = _boot_files(config, directory)
    chain = make_chain(boot_files, files or (), [_link(each) for each in loads or ()])
    if not chain.files:
        raise ContentError(f"{boot_files.directory}: no .efi file; name the files of the chain")
    text = format_manifest(chain)
    if output is None:
        print(text, end="")
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ContentError(f"{output}: {error.strerror}") from None
        print(f'{output}: {len(chain.files)} files; boot.chain_manifest = "{output.absolute()}" makes dpd check them')
    for finding in check_chain(chain, boot_files, Revocations()).findings:
        print(f"dpd: {finding.file}: {finding.fault.value}: {finding.detail}", file=sys.stderr)


def report_fields(report: ChainReport) -> dict[str, Any]:
    """A report as JSON has it."""
    findings = [{"file": each.file, "fault": each.fault.value, "detail": each.detail} for each in report.findings]
    return {"ok": not report.findings, "findings": findings, "refused": dict(report.refused)}


def _boot_files(config: Path | None, directory: Path | None) -> BootFiles:
    from dpd.content.boot_files import BootFiles

    path = directory or Path(load_named(config)[0].boot.directory)
    if not path.is_dir():
        raise ContentError(f"{path}: no such directory; --directory names another")
    return BootFiles(path)


def _named_manifest(config: Path | None) -> Path:
    settings, _ = load_named(config)
    if not settings.boot.chain_manifest:
        where = settings.path or "the defaults"
        raise SettingsError(f'{where}: boot.chain_manifest = "": expected a file; `dpd boot-file manifest` makes one')
    return Path(settings.boot.chain_manifest)


def _link(pair: str) -> tuple[str, str]:
    loader, equals, loaded = pair.partition("=")
    if not (loader and equals and loaded):
        raise ContentError(f"--loads {pair}: expected LOADER=LOADED, such as grubx64.efi=vmlinuz")
    return loader, loaded


def _rows(file: BootFile, found: Found) -> list[tuple[str, ...]]:
    """A line for each signature, one at least."""
    image = found.image
    if image is None:
        return [(file.name, size(file.size_bytes), "-", "-", "-", "-")]
    sbat = " ".join(f"{name} {number}" for name, number in image.generations.items() if name != "sbat")
    signers = [(f"{s.signer} ({s.fault.value})" if s.fault else s.signer, s.issuer) for s in image.signatures] or [
        ("nobody", "-")
    ]
    first = (file.name, size(file.size_bytes), image.architecture.value, *signers[0], sbat or "-")
    return [first, *(("", "", "", *signer, "") for signer in signers[1:])]


def _described(file: BootFile, found: Found) -> dict[str, Any]:
    about: dict[str, Any] = {"name": file.name, "size_bytes": file.size_bytes, "sha256": found.sha256}
    image = found.image
    if image is None:
        return about | {"image": None, "reason": found.fault}
    signatures = [
        {
            "signer": each.signer,
            "issuer": each.issuer,
            "authorities": list(each.authorities),
            "digest": each.digest,
            "fault": each.fault.value if each.fault else None,
        }
        for each in image.signatures
    ]
    return about | {
        "image": {
            "architecture": image.architecture.value,
            "subsystem": image.subsystem,
            "authenticode_sha256": image.authenticode_sha256,
            "signatures": signatures,
            "sbat": image.generations,
            "sbat_level": dict(image.sbat_level),
            "windows_generation": image.windows_generation,
        }
    }
