# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES

import dpd
from dpd.content.library import Library
from dpd.content.storage.store import Store
from dpd.errors import ContentError, LibraryInUse

HOLD = """
import sys
from pathlib import Path
from dpd.content.library import Library
with Library(Path(sys.argv[1]), slab_bytes=4096):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    store = Store(root)
    yield store
    store.close()


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


def test_small_files_come_and_go(store: Store, root: Path) -> None:
    name, blob = "a" * 64, "b" * 64
    store.write_manifest(name, b"{}")
    store.write_manifest(name, b"{1}")  # again, in one step
    store.write_chunks(blob, b"index")
    assert (store.manifest(name).read_bytes(), store.chunks(blob).read_bytes()) == (b"{1}", b"index")
    assert store.manifest(name).stat().st_mode & 0o777 == 0o640
    (root / "manifests" / "notes.json").touch()
    (root / "chunks" / "README").touch()
    assert (list(store.manifests()), list(store.chunk_indexes())) == ([store.manifest(name)], [store.chunks(blob)])
    for _ in range(2):
        store.drop_manifest(name)
        store.drop_chunks([blob])
    assert sorted(path.name for path in root.glob("[mc]*/*")) == ["README", "notes.json"]


def test_a_small_file_that_cannot_be_written_leaves_nothing(store: Store, root: Path) -> None:
    store.manifest("a" * 64).mkdir()  # which a file cannot replace
    with pytest.raises(OSError, match="Is a directory"):
        store.write_manifest("a" * 64, b"{}")
    assert list(store.own.parts()) == []


def test_the_sweep_takes_leftovers_and_leaves_the_rest(store: Store, root: Path) -> None:
    leftovers = [store.own.new_part(), root / "keys" / "manifest.ed25519.1234.part"]
    kept = [store.own.kept_part("c" * 64), store.key, root / "incoming" / "mine"]
    for path in [*leftovers, *kept]:
        path.touch()
    store.sweep_parts()
    assert [path for path in leftovers if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_others_may_not_look_into_the_keys(library: Library, root: Path) -> None:
    assert (root / "keys").stat().st_mode & 0o077 == 0
    assert (root / "keys" / "manifest.ed25519").stat().st_mode & 0o777 == 0o600
