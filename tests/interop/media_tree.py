# SPDX-License-Identifier: Apache-2.0
"""A folder of 20,000 files, as an upgrade package has: real files of this machine, and a WIM of two images in sources/. And
its second version."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from tests.content.wims import two_images

FILES = 20_000
_ORIGIN = "/usr/share"
_NEW, _GONE, _CHANGED = 100, 100, 400
_CHANGED_BYTES = 100_000  # each: large beside the list of all files, which moves as a whole


class FilesMissing(Exception):
    """This machine has fewer."""


@dataclass(frozen=True, slots=True)
class Media:
    """A folder, and the size of each of its files by SHA-256."""

    folder: Path
    sizes: dict[str, int]

    @classmethod
    def of(cls, folder: Path) -> Media:
        files = (path for path in folder.rglob("*") if path.is_file())
        return cls(folder, {sha256_of(path): path.stat().st_size for path in files})

    def changed_bytes(self, before: Media) -> int:
        """What must move to whom has `before`: every content that is not in it, once."""
        return sum(size for sha256, size in self.sizes.items() if sha256 not in before.sizes)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_media(folder: Path) -> tuple[Media, Media]:
    """Both versions, in folders of the same name. Raises FilesMissing."""
    first, second = folder / "1" / "media", folder / "2" / "media"
    _copy_files(first)
    (first / "sources").mkdir()
    two_images(folder).rename(first / "sources" / "install.wim")
    shutil.copytree(first, second)
    _change_files(second)
    return Media.of(first), Media.of(second)


def _copy_files(target: Path) -> None:
    copied = 0
    for place, _, names in os.walk(_ORIGIN):
        for name in sorted(names):
            source = Path(place, name)
            if source.is_symlink() or not source.is_file() or not unicodedata.is_normalized("NFC", name):
                continue
            into = target / source.relative_to(_ORIGIN)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, into)
            copied += 1
            if copied == FILES:
                return
    raise FilesMissing(f"{FILES} files in {_ORIGIN}, which has {copied}")


def _change_files(root: Path) -> None:
    rng = random.Random(9)
    files = sorted(path for path in root.rglob("*") if path.is_file() and "sources" not in path.parts)
    chosen = rng.sample(files, _CHANGED + _GONE)
    for path in chosen[:_CHANGED]:
        path.write_bytes(rng.randbytes(_CHANGED_BYTES))
    for path in chosen[_CHANGED:]:
        path.unlink()
    for number in range(_NEW):
        (root / f"new-{number}.bin").write_bytes(rng.randbytes(_CHANGED_BYTES))
