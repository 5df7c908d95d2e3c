# SPDX-License-Identifier: Apache-2.0
"""The task sequence of the demo; that a machine takes it to its end is shown by test_demo_run.py."""

from __future__ import annotations

from dpd.cli.demo_deployment import DOCUMENT, KERNEL_LINE
from dpd.sequence.document import read_document


def test_its_sequence_is_one_that_can_be_published() -> None:
    document = read_document(DOCUMENT.format(name="demo", package="DEMO0001", sha256="0" * 64))
    assert (document.problems, document.sequence is None) == ((), False)


def test_what_a_boot_script_gives_the_kernel_is_found_in_it() -> None:
    found = KERNEL_LINE.search("#!ipxe\nkernel http://dp/vmlinuz initrd=a dpd.server=http://dp || goto failed\nboot\n")
    assert found is not None
    assert found[1] == "initrd=a dpd.server=http://dp"
