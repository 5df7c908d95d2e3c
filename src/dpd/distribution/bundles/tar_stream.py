# SPDX-License-Identifier: Apache-2.0
"""A tar archive as a stream, written and read front to back: regular files in POSIX ustar form and nothing else.

What is written, GNU tar, bsdtar and Python read. What is read is held to that form: a link, a device, an extension header
or a checksum that is wrong is refused with the byte where it stands, for an archive that comes from elsewhere is not to
be guessed at. Sizes of 8 GiB and more stand in base 256, as GNU tar began and all read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dpd.errors import ContentCorrupt

BLOCK_BYTES = 512
RECORD_BYTES = 10240  # what tar programs pad to
MAX_SIZE_BYTES = 2**63 - 1

Read = Callable[[int], bytes]  # at most so many bytes; none at the end
Write = Callable[[bytes | memoryview], object]

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_OCTAL_LIMIT = 8**11
_MAGICS = (b"ustar\0" + b"00", b"ustar " + b" \0")  # POSIX; GNU tar before its extensions
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in the archive. `offset` is where its header begins, in bytes from the start of the archive."""

    path: str
    size_bytes: int
    offset: int = 0


def archive_bytes(sizes: Iterator[int]) -> int:
    """How long an archive of files of these sizes is."""
    members = sum(BLOCK_BYTES + size + _padding(size) for size in sizes)
    return -(-(members + 2 * BLOCK_BYTES) // RECORD_BYTES) * RECORD_BYTES


def header(path: str, size_bytes: int, modified_at: int) -> bytes:
    """The 512 bytes in front of a file. Raises ValueError for a path that has no room there, or is not ASCII."""
    prefix, name = _split(path)
    fields = (
        name,
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        _number(size_bytes),
        _number(modified_at),
        b" " * 8,
        b"0",
        b"",
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"0000000\0",
        b"0000000\0",
        prefix,
    )
    block = bytearray(_HEADER.pack(*fields))
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _split(path: str) -> tuple[bytes, bytes]:
    """Prefix and name; a slash between them is left out."""
    encoded = path.encode("ascii")
    if len(encoded) <= 100:
        return b"", encoded
    cut = encoded.find(b"/", len(encoded) - 101)
    if not 0 < cut <= 155:
        raise ValueError(f"{path}: no room for it in a tar header")
    return encoded[:cut], encoded[cut + 1 :]


def _number(value: int) -> bytes:
    return b"%011o\0" % value if value < _OCTAL_LIMIT else b"\x80" + value.to_bytes(11, "big")


def _padding(size_bytes: int) -> int:
    return -size_bytes % BLOCK_BYTES


class TarWriter:
    """Writes one archive: `begin` a file, `write` its bytes, and `finish` after the last one."""

    def __init__(self, write: Write, modified_at: int) -> None:
        self._write = write
        self._modified_at = modified_at
        self._left = self._pad = self._total = 0

    def begin(self, path: str, size_bytes: int) -> None:
        """The next file; the one before must be complete."""
        self._end_member()
        self._put(header(path, size_bytes, self._modified_at))
        self._left, self._pad = size_bytes, _padding(size_bytes)

    def write(self, piece: bytes | memoryview) -> None:
        """More of the file that was begun. Raises ValueError for more than was announced."""
        if len(piece) > self._left:
            raise ValueError(f"{len(piece) - self._left} bytes more than the header says")
        self._left -= len(piece)
        self._put(piece)

    def finish(self) -> None:
        """The end of the archive."""
        self._end_member()
        self._put(bytes(2 * BLOCK_BYTES + -(self._total + 2 * BLOCK_BYTES) % RECORD_BYTES))

    def _end_member(self) -> None:
        if self._left:
            raise ValueError(f"{self._left} bytes fewer than the header says")
        self._put(bytes(self._pad))
        self._pad = 0

    def _put(self, piece: bytes | memoryview) -> None:
        if piece:
            self._write(piece)
            self._total += len(piece)


class TarReader:
    """Reads one archive: `next` a file, then its `pieces`. What goes wrong raises ContentCorrupt and names the byte."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.offset = 0  # how much of the archive has been read
        self._left = self._pad = 0
        self._path = ""

    def next(self) -> TarMember | None:
        """The next file; None at the archive's end. What is left of the one before is passed over."""
        for _ in self.pieces():
            pass
        offset = self.offset
        block = self._take(BLOCK_BYTES, "a header")
        if block == bytes(BLOCK_BYTES):
            self._read_end()
            return None
        member = _parse(block, offset)
        self._left, self._pad, self._path = member.size_bytes, _padding(member.size_bytes), member.path
        return member

    def pieces(self) -> Iterator[bytes]:
        """What is left of the current file."""
        while self._left:
            piece = self._read(min(self._left, _PIECE_BYTES))
            if not piece:
                raise self._truncated(f"{self._path}, of which {self._left} bytes are missing")
            self.offset += len(piece)
            self._left -= len(piece)
            yield piece
        if self._pad:
            self._take(self._pad, self._path)
            self._pad = 0

    def _read_end(self) -> None:
        """Zeros to the very end, so that whoever writes into a pipe is heard out."""
        while piece := self._read(_PIECE_BYTES):
            if piece.count(0) != len(piece):
                raise ContentCorrupt(f"bundle: more follows behind its end at byte {self.offset}; get it again")
            self.offset += len(piece)

    def _take(self, count: int, what: str) -> bytes:
        taken = b""
        while len(taken) < count:
            piece = self._read(count - len(taken))
            if not piece:
                raise self._truncated(what)
            self.offset += len(piece)
            taken += piece
        return taken

    def _truncated(self, what: str) -> ContentCorrupt:
        return ContentCorrupt(
            f"bundle: ends at byte {self.offset} in {what}; it was cut off: get it again, what is imported already stays"
        )


def _parse(block: bytes, offset: int) -> TarMember:
    name, _, _, _, size, _, checksum, kind, link, magic, version, *_, prefix = _HEADER.unpack(block)
    where = f"bundle: byte {offset}"
    if magic + version not in _MAGICS:
        raise ContentCorrupt(f"{where}: no tar header; expected a file that `dpd bundle export` wrote, as it wrote it")
    expected = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if _read_octal(checksum) != expected:
        raise ContentCorrupt(f"{where}: a tar header whose checksum is wrong; get the bundle again")
    path = _read_path(name, prefix, where)
    if kind not in (b"0", b"\0") or link.rstrip(b"\0"):
        raise ContentCorrupt(f"{where}: {path[:80]!r} is no regular file (type {kind!r}); bundles have nothing else")
    size_bytes = _read_size(size)
    if size_bytes is None:
        raise ContentCorrupt(f"{where}: {path[:80]!r} has no size that can be read; get the bundle again")
    return TarMember(path, size_bytes, offset)


def _read_path(name: bytes, prefix: bytes, where: str) -> str:
    parts = [part.partition(b"\0")[0] for part in (prefix, name)]
    try:
        return "/".join(part.decode("ascii") for part in parts if part)
    except UnicodeDecodeError:
        raise ContentCorrupt(f"{where}: a name with bytes beyond ASCII; bundles have none") from None


def _read_size(field: bytes) -> int | None:
    if field[0] == 0x80:
        size = int.from_bytes(field[1:], "big")
        return size if _OCTAL_LIMIT <= size <= MAX_SIZE_BYTES else None
    return _read_octal(field)


def _read_octal(field: bytes) -> int | None:
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None
