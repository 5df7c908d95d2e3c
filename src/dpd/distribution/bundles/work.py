# SPDX-License-Identifier: Apache-2.0
"""Export and import as jobs: of files and folders that the daemon itself can reach.

Options of an export: `path` (the bundle to write) or `repository` (a folder), `packages` ("LAB00001,LAB00002:3", "" is
everything), `since` (a list of holdings). Of an import: `path`, and `key`, that of another distribution point.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content.signatures.document import MAX_DOCUMENT_BYTES
from dpd.content.storage.disk import NO_ROOM
from dpd.distribution.bundles import holdings
from dpd.distribution.bundles.bundle import Bundle
from dpd.distribution.bundles.holdings import NOTHING, Holdings
from dpd.distribution.bundles.listing import LISTING_PATH
from dpd.distribution.bundles.plan import Plan, choose, plan
from dpd.distribution.bundles.repository_folder import RepositoryFolder
from dpd.distribution.bundles.taking_in import BundleImport, Imported
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.run import JobRun
from dpd.errors import ContentError, JobError, LibraryFull

_KEY = re.compile(r"[0-9a-f]{64}")


class ExportWork:
    """The work of JobKind.EXPORT. An export that is cut off begins anew, as a folder with what is lacking."""

    def __init__(self, library: Library, tell: Tell) -> None:
        self._library = library
        self._tell = tell

    def __call__(self, run: JobRun) -> None:
        """Raises JobError for options that are none, ContentError, LibraryFull."""
        path, folder = _path(run, "path"), _path(run, "repository")
        if (path is None) == (folder is None):
            raise JobError("export: expected one of the options path and repository")
        run.say("looking what there is")
        names = [name for name in str(run.job.options.get("packages", "")).split(",") if name]
        planned = plan(self._library, choose(self._library, names), _read_holdings(_path(run, "since")), run.check)
        if path is not None:
            self._write_bundle(planned, path, run)
        elif folder is not None:
            done = RepositoryFolder(folder, run.progress, run.check).write(planned)
            run.say(f"{done.written} files written, {done.kept} were there")
        self._tell("bundle.exported", {"packages": len(planned.packages), "path": str(path or folder)})

    def _write_bundle(self, planned: Plan, path: Path, run: JobRun) -> None:
        bundle = Bundle(self._library, planned)
        run.say(f"writing {len(planned.packages)} packages")
        _refuse_to_replace(path)
        with whole_file(path) as file:
            bundle.write(file.write, run.progress, run.check)
        run.say(f"{len(planned.packages)} packages in {bundle.size_bytes} bytes")


class ImportWork:
    """The work of JobKind.IMPORT. `trusted` gives the keys that may have signed a bundle, beside the one that is told."""

    def __init__(self, library: Library, trusted: Callable[[], Set[bytes]], tell: Tell) -> None:
        self._library = library
        self._trusted = trusted
        self._tell = tell

    def __call__(self, run: JobRun) -> None:
        """Raises JobError for options that are none, ContentError, LibraryFull."""
        path = _path(run, "path")
        if path is None:
            raise JobError("import: expected the option path")
        keys = self._trusted() | read_key(str(run.job.options.get("key", "")))
        run.say(f"reading {path}")
        try:
            with open_regular(path) as file:
                done = BundleImport(self._library, keys, run.progress, run.check).run(file.read)
        except OSError as error:
            raise ContentError(f"{path}: {error.strerror}; give the path as the daemon sees it") from None
        tell_imported(self._tell, done)
        run.say(in_words(done))


def tell_imported(tell: Tell, done: Imported) -> None:
    """An event for each content that came."""
    for content in done.contents:
        tell("content.imported", {"package_id": content.package_id, "source_version": content.source_version})


def in_words(done: Imported) -> str:
    """One line."""
    return f"{_listed(done.contents) or 'nothing'} imported, {_listed(done.known) or 'nothing'} was here; {done.received_bytes} bytes written"


def _listed(contents: tuple[Content, ...]) -> str:
    return ", ".join(map(str, contents[:5])) + (f" and {len(contents) - 5} more" if len(contents) > 5 else "")


def read_key(text: str) -> Set[bytes]:
    """The key in 64 hexadecimal digits; none for "". Raises ContentError."""
    if not text:
        return frozenset()
    if not _KEY.fullmatch(text):
        raise ContentError(f"key {text[:80]!r}: expected 64 lower-case hexadecimal digits, as `dpd status` shows them")
    return frozenset({bytes.fromhex(text)})


def _path(run: JobRun, option: str) -> Path | None:
    value = str(run.job.options.get(option, ""))
    if value and not value.startswith("/"):
        raise JobError(f"{option} = {value[:200]!r}: expected an absolute path, as the daemon sees it")
    return Path(value) if value else None


def _read_holdings(path: Path | None) -> Holdings:
    if path is None:
        return NOTHING
    try:
        with open_regular(path) as file:
            document = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ContentError(
            f"{path}: {error.strerror}; expected what `dpd bundle holdings` printed on the other distribution point"
        ) from None
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ContentError(f"{path}: larger than {MAX_DOCUMENT_BYTES} bytes; expected a list of holdings")
    return holdings.decode(document)


@contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """For reading. A pipe could hold its reader for ever, and a device have no end. Raises OSError, ContentError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ContentError(f"{path}: no regular file; expected one that another distribution point wrote")
        yield file


def _refuse_to_replace(path: Path) -> None:
    """Whoever orders an export by the API names any path, and dpd may write to its own state and library: what is replaced
    must be an older bundle, or empty. Raises ContentError."""
    try:
        with open_regular(path) as file:
            begin = file.read(len(LISTING_PATH))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ContentError(f"{path}: {error.strerror}; name a file in a folder that dpd may write to") from None
    if begin not in (b"", LISTING_PATH.encode()):
        raise ContentError(f"{path}: is there and no bundle; name a new file, or remove it first")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when all of it is on the disk. Raises ContentError, LibraryFull."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        kind = LibraryFull if error.errno in NO_ROOM else ContentError
        raise kind(f"{path}: {error.strerror}; name a file in a folder with room that dpd may write to") from None
    finally:
        part.unlink(missing_ok=True)
