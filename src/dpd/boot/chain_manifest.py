# SPDX-License-Identifier: Apache-2.0
"""The manifest of a Secure Boot chain: TOML that is read strictly, and made from a boot directory that works.

sbat_minimum = { grub = 5 }                    # optional
revocation_lists = ["dbxupdate_x64.bin"]       # optional; beside the manifest, or absolute paths

[[file]]
name = "shimx64.efi"
sha256 = "…"
architecture = "x64"
signer = "Microsoft Windows UEFI Driver Publisher"
issuer = "Microsoft Corporation UEFI CA 2011"
loads = ["grubx64.efi"]
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from dpd.boot.chain import Chain, ChainFile, ChainReport, Found, check_chain, read_found
from dpd.boot.pe import Architecture
from dpd.boot.revocations import read_revocations
from dpd.boot.sbat import SHIM
from dpd.content.boot_files import BootFiles
from dpd.errors import ContentError, SettingsError

MAX_MANIFEST_BYTES = 1 << 20
TOP = ("sbat_minimum", "revocation_lists", "file")
SHORT_NAMES = {Architecture.X64: "x64", Architecture.X86: "ia32", Architecture.ARM64: "aa64", Architecture.ARM: "arm"}
# A shim starts the loader with this name, from its own directory; iPXE's own drops a part of its own name.
SECOND_STAGE = "grub{short}.efi"
IPXE_SHIM = re.compile(r"-shim(x64|ia32|aa64|arm)?(?=\.efi$)", re.IGNORECASE)


def check_manifest(path: Path, boot_files: BootFiles) -> ChainReport:
    """Read the manifest and its revocation lists, and judge the files. Raises SettingsError."""
    chain = read_manifest(path)
    return check_chain(chain, boot_files, read_revocations(chain.revocation_lists))


def read_manifest(path: Path) -> Chain:
    """Raises SettingsError that names the file and what is wrong."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SettingsError(f"{path}: chain manifest: more than {MAX_MANIFEST_BYTES} bytes")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: chain manifest: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: chain manifest: not TOML: {error}") from None
    try:
        return _chain(document, path.parent)
    except ValueError as error:
        raise SettingsError(f"{path}: chain manifest: {error}") from None


def _chain(document: Mapping[str, Any], directory: Path) -> Chain:
    _refuse_unknown(document, TOP, "the manifest")
    tables, minimum, lists = (
        document.get("file", []),
        document.get("sbat_minimum", {}),
        document.get("revocation_lists", []),
    )
    if not isinstance(tables, list) or not tables:
        raise ValueError("expected at least one [[file]]")
    if not isinstance(minimum, dict) or not all(type(value) is int and value > 0 for value in minimum.values()):
        raise ValueError("sbat_minimum: expected components with generations, such as { shim = 4, grub = 5 }")
    if not _is_texts(lists):
        raise ValueError("revocation_lists: expected a list of file names")
    files = tuple(_file(table) for table in tables)
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"file {name!r} stands there twice")
    for file in files:
        for name in file.loads:
            if name not in names:
                raise ValueError(f"file {file.name!r} loads {name!r}, which has no [[file]]")
    return Chain(files, minimum, tuple(directory / name for name in lists))


def _file(table: Any) -> ChainFile:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError("expected each [[file]] to have a name")
    name = table["name"]
    _refuse_unknown(table, [each.name for each in fields(ChainFile)], f"file {name!r}")
    texts = {key: table.get(key, "") for key in ("sha256", "architecture", "signer", "issuer")}
    loads = table.get("loads", [])
    if not all(isinstance(value, str) for value in texts.values()) or not _is_texts(loads):
        raise ValueError(f"file {name!r}: expected texts, and a list of names in loads")
    if not re.fullmatch(r"[0-9a-f]{64}", texts["sha256"]):
        raise ValueError(f"file {name!r}: sha256: expected 64 hexadecimal digits in lower case")
    if texts["architecture"] not in ("", *Architecture):
        raise ValueError(f'file {name!r}: architecture: expected "" or one of {", ".join(Architecture)}')
    return ChainFile(name=name, loads=tuple(loads), **texts)


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; allowed: {', '.join(known)}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def make_chain(boot_files: BootFiles, names: Iterable[str] = (), loads: Iterable[tuple[str, str]] = ()) -> Chain:
    """A manifest of these files as they are now; without names, of every signed loader and what it loads. A shim's second
    stage is known by its name; other links are given as pairs of loader and loaded. Raises ContentError."""
    indexed = {file.name: file for file in boot_files.files()}
    pairs = list(loads)
    wanted = list(names) or [name for name in indexed if name.lower().endswith(".efi")]
    wanted += [name for pair in pairs for name in pair if name not in wanted]
    found: dict[str, Found] = {}
    for name in dict.fromkeys(wanted):
        if name not in indexed:
            raise ContentError(f"{name}: not a boot file in {boot_files.directory}")
        found[name] = read_found(boot_files, indexed[name])
    pairs += [(name, second) for name, each in found.items() if (second := _second_stage(name, each)) in found]
    return Chain(
        tuple(
            _entry(name, found[name], tuple(dict.fromkeys(loaded for loader, loaded in pairs if loader == name)))
            for name in sorted(found)
        )
    )


def _second_stage(name: str, found: Found) -> str:
    """What a shim starts, "" for what is no shim."""
    if found.image is None or SHIM not in found.image.generations or not found.image.sbat_level:
        return ""
    path = PurePosixPath(name)
    if IPXE_SHIM.search(path.name):
        return str(path.with_name(IPXE_SHIM.sub("", path.name)))
    return str(path.with_name(SECOND_STAGE.format(short=SHORT_NAMES.get(found.image.architecture, ""))))


def _entry(name: str, found: Found, loads: tuple[str, ...]) -> ChainFile:
    image = found.image
    signature = image.signatures[0] if image is not None and image.signatures else None
    return ChainFile(
        name=name,
        sha256=found.sha256,
        architecture=image.architecture if image is not None else "",
        signer=signature.signer if signature else "",
        issuer=signature.issuer if signature else "",
        loads=loads,
    )


def format_manifest(chain: Chain) -> str:
    """The manifest as TOML."""
    lines = ["# The Secure Boot chain: dpd checks it at start and at each reload, and refuses what is broken."]
    if chain.sbat_minimum:
        pairs = ", ".join(f"{_quoted(component)} = {value}" for component, value in chain.sbat_minimum.items())
        lines.append(f"sbat_minimum = {{ {pairs} }}")
    if chain.revocation_lists:
        lines.append(f"revocation_lists = {_quoted([str(path) for path in chain.revocation_lists])}")
    for file in chain.files:
        lines += ["", "[[file]]"]
        for key in fields(ChainFile):
            value = getattr(file, key.name)
            if value:
                lines.append(f"{key.name} = {_quoted(list(value) if isinstance(value, tuple) else str(value))}")
    return "\n".join(lines) + "\n"


def _quoted(value: str | list[str]) -> str:
    """JSON's texts and lists are TOML's, but for DEL, which no printable name has."""
    return json.dumps(value, ensure_ascii=False)
