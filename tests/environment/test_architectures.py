# SPDX-License-Identifier: Apache-2.0
"""Processors by dpd's names."""

from __future__ import annotations

import pytest

from dpd.boot.architecture import FIRMWARE
from dpd.environment.architectures import ARCHITECTURES, architecture
from dpd.errors import BuildError


def test_every_one_is_one_that_boot_images_know() -> None:
    assert set(ARCHITECTURES) <= set(FIRMWARE)
    assert architecture("arm64").debian == "arm64"


def test_the_signed_chain_begins_with_the_shim() -> None:
    for each in ARCHITECTURES.values():
        assert [package.partition("-")[0] for package, _, _ in each.chain] == ["shim", "grub"]


def test_another_one_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BuildError, match="'mips': expected x64 or arm64"):
        architecture("mips")
