# SPDX-License-Identifier: Apache-2.0
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile
from tests.content.wim_builder import make_wim, set_field

import dpd
from dpd.content.library import Library
from dpd.content.manifest import decode_signed
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, LibraryFull


def read_blob(library: Library, package_id: str) -> bytes:
    descriptor = library.open_blob(library.find(package_id))
    with open(descriptor, "rb") as file:
        return file.read()


def files_of(root: Path) -> list[str]:
    """Everything that publishing could leave behind."""
    return sorted(str(path.relative_to(root)) for path in root.glob("[ibm]*/**/*") if path.is_file())


@pytest.mark.parametrize("size_bytes", [1, SLAB_BYTES - 1, SLAB_BYTES, SLAB_BYTES + 1, (6 << 20) + 77])
def test_what_is_published_comes_back_with_the_hashes_of_its_slabs(
    library: Library, make_file: MakeFile, size_bytes: int
) -> None:
    source = make_file(size_bytes=size_bytes)
    content = library.publish(source, "LAB00001")
    data = source.read_bytes()
    assert read_blob(library, "LAB00001") == data
    assert (content.format, content.kind, content.name, content.source_version) == ("raw", "file", "image.bin", 1)
    assert (content.size_bytes, content.sha256) == (size_bytes, hashlib.sha256(data).hexdigest())
    manifest = decode_signed(library.manifest(content), library.public_key())
    assert (manifest.package_id, manifest.source_version, manifest.sha256) == ("LAB00001", 1, content.sha256)
    slabs = [data[at : at + SLAB_BYTES] for at in range(0, size_bytes, SLAB_BYTES)]
    assert list(manifest.slab_hashes) == [hashlib.sha256(slab).digest() for slab in slabs]
    assert content.slab_count == len(slabs)
    library.verify("LAB00001")


def test_a_wim_brings_its_images(library: Library, tmp_path: Path) -> None:
    (tmp_path / "install.WIM").write_bytes(make_wim())
    content = library.publish(tmp_path / "install.WIM", "LAB00001")
    assert (content.format, content.kind) == ("wim", "os-image")
    assert [(image.index, image.name, image.size_bytes) for image in content.images] == [(1, "one", 1160)]
    assert library.find("LAB00001") == content


def test_versions_count_up_and_the_newest_is_found(library: Library, make_file: MakeFile) -> None:
    versions = [library.publish(make_file(seed=1), "P"), library.publish(make_file(seed=2), "P", 7)]
    versions.append(library.publish(make_file(seed=3), "P"))
    assert [content.source_version for content in versions] == [1, 7, 8]
    assert library.find("P") == versions[2]
    assert library.find("P", 7) == versions[1]
    assert library.contents() == versions


def test_the_same_content_again_changes_nothing(library: Library, make_file: MakeFile, root: Path) -> None:
    first = library.publish(make_file(), "P", 1)
    before = files_of(root)
    assert library.publish(make_file("other-name.bin"), "P", 1) == first
    assert library.contents() == [first]
    assert files_of(root) == before


@pytest.mark.parametrize("size_bytes", [3 * SLAB_BYTES + 5, 100])
def test_other_content_under_the_same_version_is_refused(
    library: Library, make_file: MakeFile, root: Path, size_bytes: int
) -> None:
    first = library.publish(make_file(), "P", 1)
    before = files_of(root)
    with pytest.raises(ContentError, match=r"P version 1 exists with other content .* publish under a new version"):
        library.publish(make_file("other.bin", size_bytes, seed=2), "P", 1)
    assert library.contents() == [first]
    assert files_of(root) == before


@pytest.mark.parametrize("package_id", ["", "a" * 65, "-rf", "../x", "a b", "ä", "a\n", ".hidden"])
def test_package_ids_are_checked(library: Library, make_file: MakeFile, package_id: str) -> None:
    with pytest.raises(ContentError, match="expected 1 to 64 of"):
        library.publish(make_file(), package_id)


@pytest.mark.parametrize("source_version", [0, -1, 2**31])
def test_versions_are_checked(library: Library, make_file: MakeFile, source_version: int) -> None:
    with pytest.raises(ContentError, match=f"P version {source_version}: expected 1 to 2147483647"):
        library.publish(make_file(), "P", source_version)


def test_there_is_no_version_after_the_last(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(), "P", 2**31 - 1)
    before = files_of(root)
    with pytest.raises(ContentError, match="P version 2147483648: expected 1 to 2147483647"):
        library.publish(make_file(seed=2), "P")
    assert files_of(root) == before


def test_package_ids_tell_upper_from_lower_case(library: Library, make_file: MakeFile) -> None:
    library.publish(make_file(), "lab00001")
    with pytest.raises(ContentNotFound, match="package 'LAB00001' is not in the library"):
        library.find("LAB00001")


def test_an_unknown_version_is_told_with_the_newest(library: Library, make_file: MakeFile) -> None:
    library.publish(make_file(), "P", 3)
    with pytest.raises(ContentNotFound, match="P has no version 4; its newest is 3"):
        library.find("P", 4)


def test_a_shared_blob_goes_with_its_last_user(library: Library, make_file: MakeFile, root: Path) -> None:
    library.publish(make_file(), "P")
    library.publish(make_file(), "Q")
    assert len(list(root.glob("blobs/*/*"))) == 1
    assert library.remove("P").package_id == "P"
    library.verify("Q")
    library.remove("Q")
    assert files_of(root) == []
    with pytest.raises(ContentNotFound):
        library.remove("Q")


def test_an_open_blob_outlives_its_removal(library: Library, make_file: MakeFile) -> None:
    content = library.publish(make_file(), "P")
    descriptor = library.open_blob(content)
    library.remove("P")
    with open(descriptor, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == content.sha256
    for read in (library.open_blob, library.manifest):
        with pytest.raises(ContentNotFound, match="P version 1 has been removed"):
            read(content)


def test_a_lost_blob_or_manifest_is_told_and_publishing_again_brings_it_back(
    library: Library, make_file: MakeFile, root: Path
) -> None:
    content = library.publish(make_file(), "P", 1)
    for path in [*root.glob("blobs/*/*"), *root.glob("manifests/*")]:
        path.unlink()
    with pytest.raises(ContentCorrupt, match=r"its blob .* cannot be opened: No such file.*; publish it again"):
        library.open_blob(content)
    with pytest.raises(ContentCorrupt, match=r"its manifest .* cannot be read: No such file.*; publish it again"):
        library.manifest(content)
    library.publish(make_file(), "P", 1)
    library.verify("P")


@pytest.mark.parametrize(
    ("name", "damaged", "reason"),
    [
        ("a.wim", b"no image at all" * 20, "no WIM: starts with"),
        ("a.ESD", make_wim()[:-1], "truncated: integrity table"),
        ("a.bin", set_field(make_wim(), "version", 7), "version 0x7 is unknown"),
        ("a.wim", make_wim()[:300] + b"?" + make_wim()[301:], "chunk 0 (bytes 208 to 463) has another SHA-1"),
    ],
)
def test_a_damaged_wim_is_refused_and_leaves_nothing(
    library: Library, tmp_path: Path, root: Path, name: str, damaged: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(ContentCorrupt) as refused:
        library.publish(tmp_path / name, "P")
    assert str(refused.value).startswith(str(tmp_path / name) + ": ")
    assert reason in str(refused.value)
    assert library.contents() == []
    assert files_of(root) == []


def test_progress_counts_to_the_total_and_may_stop_the_work(library: Library, make_file: MakeFile, root: Path) -> None:
    class StopHere(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopHere

    source, calls = make_file(size_bytes=3 << 20), list[tuple[int, int]]()
    with pytest.raises(StopHere):
        library.publish(source, "P", progress=stop)
    assert files_of(root) == []
    library.publish(source, "P", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1 << 20, 3 << 20), (2 << 20, 3 << 20), (3 << 20, 3 << 20)]
    with pytest.raises(StopHere):
        library.verify("P", progress=stop)


def test_the_next_open_finds_everything_and_counts_epochs_on(root: Path, make_file: MakeFile) -> None:
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        content, key = library.publish(make_file(), "P"), library.public_key()
        assert [library.next_epoch(), library.next_epoch()] == [1, 2]
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        assert library.contents() == [content]
        assert library.public_key() == key
        assert library.next_epoch() == 3
        library.verify("P")


def test_threads_publish_side_by_side_and_no_version_is_given_twice(library: Library, make_file: MakeFile) -> None:
    sources = [make_file(f"{n}.bin", size_bytes=200_000, seed=n) for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        published = list(pool.map(lambda n: library.publish(sources[n], "PQ"[n % 2]), range(12)))
        list(pool.map(lambda content: library.verify(content.package_id, content.source_version), published))
        assert sorted((c.package_id, c.source_version) for c in published) == [
            (p, v) for p in "PQ" for v in range(1, 7)
        ]
        list(pool.map(lambda content: library.remove(content.package_id, content.source_version), published))
    assert library.contents() == []


def test_closing_ends_a_publish_at_its_next_piece(library: Library, make_file: MakeFile, root: Path) -> None:
    closer = threading.Thread(target=library.close)
    other = make_file("other.bin", size_bytes=1)

    def close_meanwhile(done: int, total: int) -> None:
        closer.start()
        while True:  # until close() has begun, which refuses new work
            try:
                library.publish(other, "Q")
            except ContentError:
                break

    with pytest.raises(ContentError, match="stopped at byte 2097152 of 3145728: the library is closing"):
        library.publish(make_file(size_bytes=3 << 20), "P", progress=close_meanwhile)
    closer.join()
    assert list(root.glob("incoming/*")) == []
    for use in (library.contents, library.next_epoch, lambda: library.verify("P")):
        with pytest.raises(ContentError, match="closed"):
            use()


def test_a_root_is_not_removed_below_a_publish_that_has_chosen_it(
    library: Library, make_file: MakeFile, tmp_path: Path
) -> None:
    library.add_root(tmp_path / "second")
    library.set_root(0, reserve_bytes=1 << 59)
    refused = list[str]()

    def remove_meanwhile(done: int, total: int) -> None:
        library.set_root(0, reserve_bytes=0)
        assert library.drain_root(1).blobs == 0
        with pytest.raises(ContentError, match="began before it was drained") as told:
            library.remove_root(1)
        refused.append(str(told.value))

    library.publish(make_file(size_bytes=1 << 20), "P", progress=remove_meanwhile)
    assert refused
    library.verify("P")
    assert library.drain_root(1).blobs == 1
    library.remove_root(1)
    library.verify("P")


KILLS = int(os.environ.get("DPD_KILLS", "10"))  # 200 for the long run
NEVER_NEW = {"publish again", "open without a key", "publish again with parity", "gc"}
SCENARIOS = (
    "publish",
    "publish a shared blob",
    "publish again",
    "remove",
    "open without a key",
    "publish with parity",
    "publish again with parity",
    "remove with parity",
    "publish a folder",
    "publish the next version of a folder",
    "remove a folder",
    "gc",
    "receive",
    "receive a folder",
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new(tmp_path: Path, scenario: str) -> None:
    """A SIGKILL in each state that the lines of the change leave the disk in; crash_steps checks after each that all is
    sound, and that gc finds what is left over and nothing else."""
    outcomes = kill(scenario, tmp_path)
    assert len(outcomes) >= (4 if scenario == "open without a key" else 10)
    assert set(outcomes) == ({"old"} if scenario in NEVER_NEW else {"old", "new"})
    assert outcomes == sorted(outcomes, reverse=True)  # one point, before which it is old and after which it is new


@pytest.mark.parametrize(
    "scenario",
    ["publish", "publish the next version of a folder", "remove a folder", "gc", "receive a folder"],
)
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(tmp_path: Path, scenario: str) -> None:
    """Moments among all lines of the change, also those of loops that have run before."""
    assert len(kill(scenario, tmp_path, points=KILLS)) == KILLS


def kill(scenario: str, directory: Path, points: int = 0) -> list[str]:
    program, sources = Path(__file__).with_name("crash_steps.py"), Path(dpd.__file__).parents[1]
    memory = Path("/dev/shm")  # a kill takes nothing away that was written: waiting for a disk would show nothing more
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else directory) as place:
        ran = subprocess.run(
            [sys.executable, program, scenario, place, str(points)],
            env={**os.environ, "PYTHONPATH": str(sources)},
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    assert ran.returncode == 0, ran.stderr
    outcomes: list[str] = json.loads(ran.stdout)
    return outcomes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB that is really full when it is full."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_read(small_disk: Path, make_file: MakeFile) -> None:
    calls = list[int]()
    with Library(small_disk, slab_bytes=SLAB_BYTES) as library:
        with pytest.raises(LibraryFull, match=r"needs 9194304 bytes in a root \(.*disk: \d+ are free, 0 in reserve\)"):
            library.publish(make_file(size_bytes=5_000_000), "P", progress=lambda done, total: calls.append(done))
        assert calls == []
        assert files_of(small_disk) == []


@pytest.mark.parametrize("reserved", [True, False], ids=["reserved", "no fallocate"])
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    small_disk: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, reserved: bool
) -> None:
    """With fallocate the blob's room is kept and only the rest can fail; without it, the blob itself."""
    if not reserved:
        monkeypatch.setattr("os.posix_fallocate", _not_supported)
    filler = small_disk / "filler"

    with Library(small_disk, slab_bytes=SLAB_BYTES) as library:
        before = library.publish(make_file("small.bin", 1000), "P")
        source = make_file(size_bytes=3_000_000, seed=2)
        with pytest.raises(LibraryFull, match=r"image\.bin: .*the disk .* full.*; make room"):
            library.publish(source, "Q", progress=lambda done, total: fill(filler))
        filler.unlink()
        assert library.contents() == [before]
        assert len(files_of(small_disk)) == 2
        library.publish(source, "Q")
        library.verify("Q")


def test_a_disk_too_full_for_the_catalogue_is_told(small_disk: Path) -> None:
    with Library(small_disk, slab_bytes=SLAB_BYTES) as library:
        fill(small_disk / "filler")
        with pytest.raises(LibraryFull, match=r"library\.db: the disk is full"):
            list(iter(library.next_epoch, -1))  # without end, but the write-ahead log has to grow
        (small_disk / "filler").unlink()
        assert library.next_epoch() > 0


def fill(filler: Path) -> None:
    """Write until the disk is full."""
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _not_supported(*_: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("path", ["/tmp/a\0b", "/tmp/\ud800"], ids=["null", "surrogate"])
def test_what_can_be_no_path_is_told(library: Library, path: str) -> None:
    with pytest.raises(ContentError, match="no path of a file"):
        library.publish(Path(path), "P")
    with pytest.raises(ContentError, match="no path of a folder"):
        library.add_root(Path(path))
