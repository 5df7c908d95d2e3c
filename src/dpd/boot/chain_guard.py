# SPDX-License-Identifier: Apache-2.0
"""Stands between the boot directory and the machines: what belongs to a broken Secure Boot chain is not handed out."""

from __future__ import annotations

import logging
from pathlib import Path

from dpd.boot.chain import ChainReport, Found, check_chain, read_found
from dpd.boot.chain_manifest import read_manifest
from dpd.boot.revocations import read_revocations
from dpd.content.boot_files import BootFile, BootFiles

log = logging.getLogger(__name__)


class ChainGuard:
    """Judges the chain of one manifest; `manifest` "" is none, and then nothing is refused."""

    def __init__(self, manifest: str, boot_files: BootFiles) -> None:
        self._manifest = manifest
        self._boot_files = boot_files
        self._found: dict[BootFile, Found] = {}

    def check(self) -> ChainReport:
        """Judge what the index has now, and refuse what is broken. Files that are as they were are not read again. Raises
        SettingsError where the manifest or a revocation list cannot be used; then what was refused stays so."""
        if not self._manifest:
            return ChainReport()
        chain = read_manifest(Path(self._manifest))
        revocations = read_revocations(chain.revocation_lists)
        known = self._found
        self._found = {}

        def read(boot_files: BootFiles, file: BootFile) -> Found:
            found = self._found[file] = known.get(file) or read_found(boot_files, file)
            return found

        report = check_chain(chain, self._boot_files, revocations, read)
        self._boot_files.refuse(report.refused)
        for finding in report.findings:
            about = {"file": finding.file, "fault": finding.fault.value, "detail": finding.detail}
            log.error("secure boot chain broken", extra=about)
        level = logging.WARNING if report.refused else logging.INFO
        log.log(level, "secure boot chain checked", extra={"files": len(chain.files), "refused": ", ".join(report.refused)})  # fmt: skip
        return report
