# SPDX-License-Identifier: Apache-2.0
"""Stands between the boot directory and the machines: what belongs to a broken Secure Boot chain is not handed out."""

from __future__ import annotations

import logging
from pathlib import Path

from dpd.boot.chain import ChainReport, Found, check_chain, read_found
from dpd.boot.chain_manifest import read_manifest
from dpd.boot.revocations import read_revocations
from dpd.content.boot_files import BootFile, BootFiles
from dpd.errors import ContentError

log = logging.getLogger(__name__)


class ChainGuard:
    """Judges the loaders of the boot directory, and the chain of one manifest; `manifest` "" is none, and then nothing is
    refused."""

    def __init__(self, manifest: str, boot_files: BootFiles) -> None:
        self._manifest = manifest
        self._boot_files = boot_files
        self._found: dict[BootFile, Found] = {}

    def check(self) -> ChainReport:
        """Judge what the index has now, refuse what is broken, and remark on what will not start. Files that are as they were
        are not read again. Raises SettingsError where the manifest or a revocation list cannot be used; then what was
        refused stays so."""
        self._forget_what_is_gone()
        self._remark()
        if not self._manifest:
            return ChainReport()
        chain = read_manifest(Path(self._manifest))
        report = check_chain(chain, self._boot_files, read_revocations(chain.revocation_lists), self._read)
        self._boot_files.refuse(report.refused)
        for finding in report.findings:
            about = {"file": finding.file, "fault": finding.fault.value, "detail": finding.detail}
            log.error("secure boot chain broken", extra=about)
        level = logging.WARNING if report.refused else logging.INFO
        log.log(level, "secure boot chain checked", extra={"files": len(chain.files), "refused": ", ".join(report.refused)})  # fmt: skip
        return report

    def _forget_what_is_gone(self) -> None:
        there = set(self._boot_files.files())
        self._found = {file: found for file, found in self._found.items() if file in there}

    def _read(self, boot_files: BootFiles, file: BootFile) -> Found:
        found = self._found.get(file)
        if found is None:
            found = self._found[file] = read_found(boot_files, file)
        return found

    def _remark(self) -> None:
        """Loaders are served whatever is wrong with them, since without Secure Boot a signature is nothing; but it is told."""
        remarks = {}
        for file in self._boot_files.files():
            if file.sha256 and (fault := self._fault_of(file)):
                remarks[file.name] = fault
                log.warning("boot file will not start", extra={"file": file.name, "detail": fault})
        self._boot_files.remark(remarks)

    def _fault_of(self, file: BootFile) -> str:
        """What keeps a loader from starting, "" for nothing that can be told without the machine."""
        try:
            found = self._read(self._boot_files, file)
        except ContentError:  # it went away just now, and will not be served
            return ""
        if found.image is None:
            return f"no sound EFI program: {found.fault}"
        faults = [signature.fault for signature in found.image.signatures if signature.fault]
        return f"with Secure Boot on: its signature does not hold ({faults[0].value})" if faults else ""
