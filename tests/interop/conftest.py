# SPDX-License-Identifier: Apache-2.0
"""What tests against foreign programs share: a LAN of namespaces, and skips that name what is missing.

Everything in this folder carries the marker `interop`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.netns import Lan, missing
from tests.interop import linux
from tests.interop.deploying_guests import stock as stock  # one for all files that ask for it

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests, so that `-m "not interop"` leaves out all of them."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("interop")


@pytest.fixture
def need() -> Callable[..., None]:
    """`need("curl", Path("/usr/share/OVMF/…"))`: skip by the name of what is not there."""

    def skip_without(*things: str | Path) -> None:
        absent = [str(t) for t in things if not (t.is_file() if isinstance(t, Path) else shutil.which(t))]
        if absent:
            pytest.skip("missing: " + ", ".join(absent))

    return skip_without


@pytest.fixture
def make_lan() -> Iterator[Callable[..., Lan]]:
    """`make_lan("server", "client")`: a LAN of namespaces that ends with the test; skips without root or its tools."""
    absent = missing()
    if absent:
        pytest.skip("a LAN of namespaces needs " + ", ".join(absent))
    with ExitStack() as stack:

        def enter(*names: str, **options: Any) -> Lan:
            return stack.enter_context(Lan(*names, **options))

        yield enter


@pytest.fixture
def put_linux() -> linux.PutLinux:
    """`put_linux(folder)`: paths of a kernel and an initramfs in there; skips by the name of what is missing."""

    def put(folder: Path) -> tuple[Path, Path]:
        try:
            return linux.put_linux(folder)
        except linux.LinuxMissing as error:
            pytest.skip(str(error))

    return put


@pytest.fixture
def boot_directory(lan: Lan, tmp_path: Path, put_linux: linux.PutLinux) -> Path:
    """What Debian packages: iPXE, and Linux, which its script boots over HTTP from the host `dpd` of the test's LAN."""
    boot = tmp_path / "boot"
    boot.mkdir()
    put_linux(boot)
    shutil.copy(linux.IPXE_EFI, boot / "ipxe.efi")
    (boot / "boot.ipxe").write_text(linux.BOOT_SCRIPT.format(address=lan["dpd"].address), encoding="ascii")
    return boot
