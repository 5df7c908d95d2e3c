# SPDX-License-Identifier: Apache-2.0
"""A repository to build from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.environment.packaged import Repository, fill


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Skips where no apt is."""
    absent = [program for program in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(program) is None]
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    return Repository(tmp_path / "repository")


@pytest.fixture
def debian(repository: Repository) -> Repository:
    """With all that an environment is made of; skips where it cannot be compressed or looked into."""
    absent = [program for program in ("zstd", "busybox") if shutil.which(program) is None]
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    fill(repository)
    return repository
