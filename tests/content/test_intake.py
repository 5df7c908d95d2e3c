# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

from dpd.content import intake
from dpd.content.chunks import Chunker, ChunkIndex
from dpd.content.intake import open_source, take_in
from dpd.content.library import Library
from dpd.errors import ContentError

MIB = 1 << 20


class Recorder:
    """Any consumer of the stream: sees it in order, and its end."""

    def __init__(self) -> None:
        self.seen, self.ended = bytearray(), False

    def update(self, piece: memoryview) -> None:
        self.seen += piece

    def finish(self) -> None:
        self.ended = True


@pytest.mark.parametrize("slab_bytes", [4096, 1_000_003, MIB + 1, 64 * MIB])
def test_one_pass_copies_and_hashes_whatever_the_slab_size(
    make_file: MakeFile, tmp_path: Path, slab_bytes: int
) -> None:
    """11 MiB go round the ring of buffers more than twice."""
    path, recorder = make_file(size_bytes=11 * MIB + 3), Recorder()
    with open_source(path) as source:
        digests = take_in(source, tmp_path / "part", slab_bytes, recorder, lambda done, total: None)
    content = path.read_bytes()
    assert (tmp_path / "part").read_bytes() == content == recorder.seen
    assert recorder.ended
    assert digests.sha256 == hashlib.sha256(content).hexdigest()
    slabs = [content[at : at + slab_bytes] for at in range(0, len(content), slab_bytes)]
    assert list(digests.slab_hashes) == [hashlib.sha256(slab).digest() for slab in slabs]


def ignore(done: int, total: int) -> None:
    """Nobody watches."""


def index_of(content: bytes) -> ChunkIndex:
    chunker = Chunker()
    chunker.update(memoryview(content))
    chunker.finish()
    return chunker.index()


@pytest.mark.parametrize("slab_bytes", [None, 5_500_000])
@pytest.mark.parametrize("size_bytes", [MIB, 13 * MIB + 5])
def test_the_same_pass_cuts_the_source_into_chunks(
    make_file: MakeFile, tmp_path: Path, slab_bytes: int | None, size_bytes: int
) -> None:
    path = make_file(size_bytes=size_bytes)
    with open_source(path) as source:
        digests = take_in(source, tmp_path / "part", slab_bytes, None, ignore, chunks=True)
    assert digests.chunk_index is not None
    assert ChunkIndex.decode(digests.chunk_index) == index_of(path.read_bytes())
    assert digests.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (digests.slab_hashes == ()) is (slab_bytes is None)


def test_a_small_source_has_no_chunks_and_starts_no_threads(
    make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ThreadPoolExecutor", None)
    path, calls = make_file(size_bytes=MIB - 1), list[tuple[int, int]]()
    with open_source(path) as source:
        digests = take_in(
            source, tmp_path / "part", None, None, lambda done, total: calls.append((done, total)), chunks=True
        )
    assert (digests.chunk_index, calls) == (None, [(MIB - 1, MIB - 1)])
    assert (tmp_path / "part").read_bytes() == path.read_bytes()


def test_where_nothing_can_cut_there_is_no_index(
    make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpd.content.chunks.FastCDC", None)
    with open_source(make_file(size_bytes=2 * MIB)) as source:
        assert take_in(source, tmp_path / "part", None, None, ignore, chunks=True).chunk_index is None


def test_a_source_that_stays_where_it_is_is_only_read(make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file(size_bytes=3 * MIB + 1)
    before = sorted(tmp_path.iterdir())
    with open_source(path) as source:
        digests = take_in(source, None, SLAB_BYTES, None, ignore)
    assert digests.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(digests.slab_hashes) == 3 * MIB // SLAB_BYTES + 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_file_of_a_folder_is_content_too(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open_source(tmp_path / "empty", may_be_empty=True) as source:
        digests = take_in(source, tmp_path / "part", None, None, ignore, chunks=True)
    assert digests.sha256 == hashlib.sha256(b"").hexdigest()
    assert (tmp_path / "part").read_bytes() == b""


def make_missing(path: Path) -> None:
    pass


def make_empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_missing, "no such file; give the path as this machine sees it"),
        (make_empty, "empty; expected an image"),
        (Path.mkdir, "no files in this folder"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be opened: Too many levels of symbolic links"),
    ],
    ids=["missing", "empty", "directory", "fifo", "loop"],
)
def test_what_cannot_be_published_is_told(
    library: Library, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "install.wim"
    make(path)
    with pytest.raises(ContentError) as refused:
        library.publish(path, "P")
    assert str(refused.value).startswith(f"{path}: {reason}")


def test_a_file_without_permission_is_told(library: Library, make_file: MakeFile) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = make_file()
    path.chmod(0)
    with pytest.raises(ContentError, match="cannot be opened: Permission denied"):
        library.publish(path, "P")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 2 * MIB)


def rewrite(path: Path) -> None:
    """The same size; only the time tells."""
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [append, truncate, rewrite])
def test_a_source_that_changes_while_it_is_read_is_refused(
    library: Library, make_file: MakeFile, root: Path, change: Callable[[Path], None]
) -> None:
    path = make_file(size_bytes=3 * MIB)

    def change_once(done: int, total: int) -> None:
        if done == MIB:
            change(path)

    with pytest.raises(
        ContentError, match=r"image\.bin: changed while it was read .*; publish it again when its writer"
    ):
        library.publish(path, "P", progress=change_once)
    assert library.contents() == []
    assert list(root.glob("incoming/*")) == []


def test_a_source_that_is_replaced_meanwhile_is_published_as_it_was_opened(
    library: Library, make_file: MakeFile
) -> None:
    """A rename over the path leaves the open file alone: what counts is the file, not its name."""
    path, other = make_file(size_bytes=2 * MIB), make_file("other.bin", seed=2)
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    def replace(done: int, total: int) -> None:
        if done == MIB:
            other.rename(path)

    assert library.publish(path, "P", progress=replace).sha256 == before


def test_a_name_that_is_no_utf_8_is_published_and_shown(library: Library, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"image\xff.bin")
    path.write_bytes(bytes(SLAB_BYTES))
    assert library.publish(path, "P").name == "image\ufffd.bin"
