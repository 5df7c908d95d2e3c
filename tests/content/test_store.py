# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES

import dpd
from dpd.content.library import Library
from dpd.content.store import write_whole
from dpd.errors import ContentError, LibraryInUse

HOLD = """
import sys
from pathlib import Path
from dpd.content.library import Library
with Library(Path(sys.argv[1]), slab_bytes=4096):
    print("open", flush=True)
    sys.stdin.read()
"""


def hold(root: Path) -> "subprocess.Popen[str]":
    """Another process that has the library open."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dpd.__file__).parents[1])}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    return other


def test_a_second_process_is_refused_until_the_first_is_gone_even_if_killed(root: Path) -> None:
    with hold(root) as other:
        with pytest.raises(LibraryInUse) as refused:
            Library(root, slab_bytes=SLAB_BYTES)
        assert f"library {root} is in use by process {other.pid} ({root}/lock): use that daemon" in str(refused.value)
        other.send_signal(signal.SIGKILL)
        other.wait()
    Library(root, slab_bytes=SLAB_BYTES).close()


def test_a_second_library_in_the_same_process_is_refused_too(library: Library, root: Path) -> None:
    with pytest.raises(LibraryInUse, match=f"in use by process {os.getpid()}"):
        Library(root, slab_bytes=SLAB_BYTES)


def test_a_closed_library_can_be_opened_again_and_closed_twice(root: Path) -> None:
    library = Library(root, slab_bytes=SLAB_BYTES)
    library.close()
    library.close()
    Library(root, slab_bytes=SLAB_BYTES).close()


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ContentError, match=r"library .*/file/library: .*: Not a directory"):
        Library(tmp_path / "file" / "library", slab_bytes=SLAB_BYTES)


def test_a_small_file_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", b"content", mode=0o600)  # cannot replace a directory
    assert os.listdir(tmp_path) == ["folder"]
    write_whole(tmp_path / "file", b"content", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_others_may_not_look_into_the_keys(library: Library, root: Path) -> None:
    assert (root / "keys").stat().st_mode & 0o077 == 0
    assert (root / "keys" / "manifest.ed25519").stat().st_mode & 0o777 == 0o600
