# SPDX-License-Identifier: Apache-2.0
"""The Secure Boot chain: which loader starts which, and whether firmware will go along to the end.

Firmware only says "Access Denied", or a shim stops with one line that nobody reads. So the chain is judged here before it
is handed out: each file against the manifest and against what shim and firmware ask for. A loader whose chain is broken
further down is refused too: the machine would start it and stand still.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dpd.boot.pe import PeImage, read_pe
from dpd.boot.revocations import Revocations
from dpd.boot.sbat import SHIM
from dpd.content.boot_files import BootFile, BootFiles
from dpd.errors import ContentError, MalformedImage

CHUNK_BYTES = 1 << 20


class ChainFault(StrEnum):
    """What breaks a chain; a closed set of labels."""

    MISSING = "missing"
    UNREADABLE = "unreadable"  # no sound PE image
    WRONG_HASH = "wrong_hash"  # another file than the manifest's
    WRONG_ARCHITECTURE = "wrong_architecture"
    WRONG_SIGNER = "wrong_signer"
    BAD_SIGNATURE = "bad_signature"  # firmware could not take it, whomever it trusts
    SBAT_MISSING = "sbat_missing"  # shim starts nothing without SBAT
    SBAT_TOO_LOW = "sbat_too_low"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ChainFile:
    """What the manifest says of one file. `architecture` is "" for what is no PE image, `signer` "" for an unsigned one; with
    several signatures one of this signer and issuer must be there."""

    name: str
    sha256: str
    architecture: str = ""
    signer: str = ""
    issuer: str = ""
    loads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """The manifest. `sbat_minimum` adds to what each shim of the chain asks for by itself."""

    files: tuple[ChainFile, ...] = ()
    sbat_minimum: Mapping[str, int] = field(default_factory=dict)
    revocation_lists: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one file, and a sentence."""

    file: str
    fault: ChainFault
    detail: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """`refused` are the files that must not be handed out, each with a sentence."""

    findings: tuple[Finding, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is on the disk: its SHA-256, and what it is, or why that cannot be told."""

    sha256: str
    image: PeImage | None
    fault: str = ""


def read_found(boot_files: BootFiles, file: BootFile) -> Found:
    """Hash and read one boot file. Raises ContentError where it cannot be opened."""
    with os.fdopen(boot_files.open(file), "rb") as stream:
        digest = hashlib.sha256()
        while part := stream.read(CHUNK_BYTES):
            digest.update(part)
        try:
            return Found(digest.hexdigest(), read_pe(stream))
        except MalformedImage as error:
            return Found(digest.hexdigest(), None, str(error))


Read = Callable[[BootFiles, BootFile], Found]


def check_chain(chain: Chain, boot_files: BootFiles, revocations: Revocations, read: Read = read_found) -> ChainReport:
    """Judge each file of the manifest as it is in the boot directory now."""
    indexed = {file.name: file for file in boot_files.files()}
    found: dict[str, Found] = {}
    findings: list[Finding] = []
    for file in chain.files:
        try:
            found[file.name] = read(boot_files, indexed[file.name])
        except KeyError:
            findings.append(Finding(file.name, ChainFault.MISSING, "it is not in the boot directory"))
        except (ContentError, OSError) as error:
            findings.append(Finding(file.name, ChainFault.MISSING, str(error)))
    for file in chain.files:
        if file.name in found:
            faults = _judge(file, found[file.name], revocations)
            findings += [Finding(file.name, fault, detail) for fault, detail in faults]
    findings += _judge_links(chain, found)
    return ChainReport(tuple(findings), _refusals(chain, findings))


def _judge(file: ChainFile, found: Found, revocations: Revocations) -> Iterator[tuple[ChainFault, str]]:
    """What is wrong with one file by itself."""
    if found.sha256 != file.sha256:
        yield ChainFault.WRONG_HASH, f"its SHA-256 is {found.sha256}, the manifest has {file.sha256}"
    image = found.image
    if image is None:
        if file.architecture:
            yield ChainFault.UNREADABLE, found.fault
        return
    if image.architecture != file.architecture:
        yield ChainFault.WRONG_ARCHITECTURE, f"it is for {image.architecture}, the manifest has {file.architecture!r}"
    for signature in image.signatures:
        if signature.fault is not None:
            yield ChainFault.BAD_SIGNATURE, f"the signature of {signature.signer!r} does not hold: {signature.fault}"
    signers = [(signature.signer, signature.issuer) for signature in image.signatures] or [("", "")]
    if (file.signer, file.issuer) not in signers:
        yield (
            ChainFault.WRONG_SIGNER,
            f"signed by {_shown(*signers[0])}, the manifest has {_shown(file.signer, file.issuer)}",
        )
    if revoked := revocations.explain(image):
        yield ChainFault.REVOKED, revoked


def _shown(signer: str, issuer: str) -> str:
    return f"{signer!r} of {issuer!r}" if signer or issuer else "nobody"


def _judge_links(chain: Chain, found: Mapping[str, Found]) -> Iterator[Finding]:
    """What is wrong between a loader and what it loads, and SBAT, since shims bring their own minimum."""
    images = {name: each.image for name, each in found.items() if each.image is not None}
    minimum = dict(chain.sbat_minimum)
    for image in images.values():
        for component, generation in image.sbat_level:
            minimum[component] = max(generation, minimum.get(component, 0))
    for name, image in images.items():
        for component, generation in image.generations.items():
            if generation < minimum.get(component, 0):
                detail = f"SBAT generation {component} {generation}, at least {minimum[component]} is asked for"
                yield Finding(name, ChainFault.SBAT_TOO_LOW, detail)
    for file in chain.files:
        loader = images.get(file.name)
        for name in file.loads:
            if loader is not None and (loaded := images.get(name)) is not None:
                yield from _judge_link(file.name, loader, name, loaded)


def _judge_link(loader_name: str, loader: PeImage, name: str, loaded: PeImage) -> Iterator[Finding]:
    if loader.architecture != loaded.architecture:
        detail = f"it is for {loaded.architecture}, and {loader_name}, which loads it, for {loader.architecture}"
        yield Finding(name, ChainFault.WRONG_ARCHITECTURE, detail)
    if SHIM in loader.generations and not loaded.sbat:
        detail = f"it has no SBAT, and {loader_name} is a shim, which starts nothing without"
        yield Finding(name, ChainFault.SBAT_MISSING, detail)


def _refusals(chain: Chain, findings: list[Finding]) -> dict[str, str]:
    """The broken files, and upwards whatever leads to one of them."""
    refused: dict[str, str] = {}
    for finding in findings:
        refused.setdefault(finding.file, f"the Secure Boot chain is broken: {finding.file}: {finding.detail}")
    while True:
        above = {
            file.name: refused[name]
            for file in chain.files
            for name in file.loads
            if name in refused and file.name not in refused
        }
        if not above:
            return refused
        refused |= above
