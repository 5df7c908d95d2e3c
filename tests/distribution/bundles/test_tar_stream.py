# SPDX-License-Identifier: Apache-2.0
"""Archives that other programs read, and archives that are not what they should be."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd.distribution.bundles.tar_stream import BLOCK_BYTES, TarReader, TarWriter, archive_bytes, header
from dpd.errors import ContentCorrupt

Files = list[tuple[str, bytes]]
HASH_PATH = "repository/v1/blobs/" + 64 * "a"
LONG_PATH = "repository/v1/packages/" + 64 * "P" + "/2147483647/description"

PATHS = st.one_of(
    st.from_regex(r"[a-z]{1,8}(/[a-z0-9]{1,40}){0,3}", fullmatch=True), st.just(HASH_PATH), st.just(LONG_PATH)
)
FILES = st.lists(st.tuples(PATHS, st.binary(max_size=2000)), max_size=6)


def write(files: Files) -> bytes:
    archive = bytearray()
    writer = TarWriter(archive.extend, 1_800_000_000)
    for path, content in files:
        writer.begin(path, len(content))
        writer.write(content)
    writer.finish()
    return bytes(archive)


def read(archive: bytes, at_most: int = 1 << 20) -> Files:
    source = io.BytesIO(archive)
    reader = TarReader(lambda count: source.read(min(count, at_most)))
    files = []
    while member := reader.next():
        files.append((member.path, b"".join(reader.pieces())))
    assert reader.offset == len(archive)
    return files


@given(FILES, st.sampled_from([1, 7, 511, 512, 513, 4096]))
def test_what_is_written_is_read_again_in_whatever_pieces_it_comes(files: Files, at_most: int) -> None:
    archive = write(files)
    assert read(archive, at_most) == files
    assert archive_bytes(iter([len(content) for _, content in files])) == len(archive)


@given(FILES)
def test_python_reads_the_same(files: Files) -> None:
    with tarfile.open(fileobj=io.BytesIO(write(files)), mode="r|") as archive:
        told = []
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            told.append((member.name, content.read()))
            assert (member.isreg(), member.mode, member.uid, member.mtime) == (True, 0o644, 0, 1_800_000_000)
    assert told == files


@pytest.mark.interop
def test_gnu_tar_unpacks_it(tmp_path: Path) -> None:
    files = [("a", b"x" * 513), (HASH_PATH, b""), (LONG_PATH, b"y" * 1024)]
    subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=write(files), check=True, capture_output=True)
    assert [(path, (tmp_path / path).read_bytes()) for path, _ in files] == files


@pytest.mark.interop
@pytest.mark.parametrize("form", ["ustar", "v7"])
def test_of_other_programs_the_same_form_alone_is_read(form: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    command: list[str | Path] = ["tar", "-C", tmp_path, f"--format={form}", "-cf", "-", "file"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    if form == "ustar":
        assert read(archive) == [("file", b"content")]
    else:
        with pytest.raises(ContentCorrupt, match="byte 0: no tar header"):
            read(archive)


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 2**43, 2**63 - 1])
def test_a_size_beyond_eight_gibibytes_is_read_by_others_too(size: int) -> None:
    block = header("repository/v1/blobs/x", size, 0)
    assert tarfile.TarInfo.frombuf(block, "ascii", "strict").size == size
    member = TarReader(io.BytesIO(block).read).next()
    assert member is not None
    assert member.size_bytes == size


def test_a_path_without_room_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no room"):
        header("a" * 101, 0, 0)


def test_a_file_is_as_long_as_was_said() -> None:
    writer = TarWriter(lambda piece: None, 0)
    writer.begin("a", 3)
    with pytest.raises(ValueError, match="1 bytes more"):
        writer.write(b"abcd")
    writer.write(b"ab")
    with pytest.raises(ValueError, match="1 bytes fewer"):
        writer.finish()


@given(FILES, st.data())
def test_a_cut_is_told_with_its_place_or_takes_padding_alone(files: Files, data: st.DataObject) -> None:
    archive = write(files)
    needed = len(archive_of_members(files)) + BLOCK_BYTES
    kept = data.draw(st.integers(0, needed - 1))
    with pytest.raises(ContentCorrupt, match=f"ends at byte {kept} in "):
        read(archive[:kept])
    assert read(archive[: data.draw(st.integers(needed, len(archive)))]) == files


def archive_of_members(files: Files) -> bytes:
    return b"".join(
        header(path, len(content), 0) + content + bytes(-len(content) % BLOCK_BYTES) for path, content in files
    )


@given(FILES.filter(bool), st.data())
@settings(max_examples=300)
def test_a_changed_bit_of_a_header_is_seen(files: Files, data: st.DataObject) -> None:
    """The sum of bytes sees any single one; of the checksum's own two last bytes one may be either end of a number."""
    archive = bytearray(write(files))
    archive[data.draw(st.integers(0, BLOCK_BYTES - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if bytes(archive[154:156]) in (b"\0\0", b"  "):
        assert read(bytes(archive)) == files
        return
    with pytest.raises(ContentCorrupt, match="byte 0"):
        read(bytes(archive))


TRICKS = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "directory": tarfile.DIRTYPE,
    "device": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "extension": tarfile.XHDTYPE,
}


@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_no_regular_file_is_refused(trick: str) -> None:
    info = tarfile.TarInfo("a")
    info.type = TRICKS[trick]
    archive = write([("good", b"1")])[: 2 * BLOCK_BYTES] + info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    with pytest.raises(ContentCorrupt, match=r"byte 1024: 'a/?' is no regular file"):
        read(archive)


def test_a_link_that_calls_itself_a_file_is_refused() -> None:
    info = tarfile.TarInfo("a")
    info.linkname = "/etc/passwd"
    with pytest.raises(ContentCorrupt, match="is no regular file"):
        read(info.tobuf(tarfile.USTAR_FORMAT))


@given(st.binary(min_size=BLOCK_BYTES, max_size=4 * BLOCK_BYTES).filter(lambda content: any(content[:BLOCK_BYTES])))
def test_any_other_bytes_are_no_archive(content: bytes) -> None:
    with pytest.raises(ContentCorrupt, match="byte 0"):
        read(content)


def test_what_follows_the_end_is_no_part_of_it() -> None:
    with pytest.raises(ContentCorrupt, match="behind its end"):
        read(write([("a", b"1")]) + b"more")
