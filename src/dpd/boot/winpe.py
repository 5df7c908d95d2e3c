# SPDX-License-Identifier: Apache-2.0
"""What a WinPE boot.wim brings along for its own network boot: loaders, boot.sdi, fonts, and where they are in it.

Windows keeps two generations of its UEFI loaders: signed below the CA of 2011, and in the _EX folders below that of 2023.
Those stand below GENERATION_2023 in the image's folder. All of it is a few megabytes; the WIM itself is there once.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from dpd.boot.pe import read_pe
from dpd.content.wim import reader as wim
from dpd.content.wim import tool as wim_tool
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError, MalformedImage

WIM = "boot.wim"
SDI = "boot.sdi"
BCD = "bcd"
BCD_NAME = "\\Boot\\BCD"  # option 252
GENERATION_2011, GENERATION_2023 = "2011", "2023"
UEFI_LOADER = "bootmgfw.efi"
MICROSOFT_LOADERS = frozenset(
    {UEFI_LOADER, "wdsmgfw.efi", "pxeboot.n12", "pxeboot.com", "abortpxe.com", "wdsnbp.com", "bootmgr.exe"}
)
# UEFI's default names for a loader, which some firmware and tools ask for.
ALIASES = {"bootx64.efi": UEFI_LOADER, "bootia32.efi": UEFI_LOADER, "bootaa64.efi": UEFI_LOADER}
MAX_FILE_BYTES = 64 << 20  # boot.sdi has 3 MB, the largest font 4

_LANGUAGE = r"([a-z]{2,3}(?:-[a-z0-9]+)*)"
# Where a file is in the image, in lower case, and its name in our folder. Of those that lead to one name, the first counts.
_WANTED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"/windows/boot/pxe/(pxeboot\.n12|pxeboot\.com|abortpxe\.com|wdsnbp\.com|bootmgr\.exe|wdsmgfw\.efi)", r"\1"),
        (r"/windows/boot/efi/(bootmgfw\.efi|boot\.stl|[^/]+\.p7b)", r"\1"),
        (r"/windows/boot/efi/cipolicies/active/([^/]+\.cip)", r"cipolicies/active/\1"),
        (rf"/windows/boot/(?:efi|pxe|pcat)/{_LANGUAGE}/((?:bootmgfw|wdsmgfw)\.efi\.mui|bootmgr\.exe\.mui)", r"\1/\2"),
        (r"/windows/boot/fonts/([^/]+\.ttf)", r"fonts/\1"),
        (r"/windows/boot/resources/(bootres\.dll)", r"resources/\1"),
        (rf"/windows/boot/resources/{_LANGUAGE}/(bootres\.dll\.mui)", r"\1/\2"),
        (r"/windows/boot/(?:efi|pxe)_ex/(bootmgfw|wdsmgfw)_ex(\.efi)", rf"{GENERATION_2023}/\1\2"),
        (r"/windows/boot/fonts_ex/([^/]+)_ex(\.ttf)", rf"{GENERATION_2023}/fonts/\1\2"),
        (r"/windows/boot/dvd/efi/boot\.sdi", SDI),
        (r"/windows/boot/dvd/pcat/boot\.sdi", SDI),
        (r"/sms/boot/boot\.sdi", SDI),
        (r"/windows/system32/boot\.sdi", SDI),
    )
)


def choose(paths: Iterable[str]) -> dict[str, str]:
    """Which of an image's paths to take, by the name that they get."""
    known = {path.lower(): path for path in paths}
    chosen: dict[str, str] = {}
    for pattern, name in _WANTED:
        for lower, path in sorted(known.items()):
            if found := pattern.fullmatch(lower):
                chosen.setdefault(found.expand(name), path)
    return chosen


def boot_image_of(path: Path) -> tuple[int, ImageSummary]:
    """The image that the boot manager starts: its index and what is known of it. Raises ContentCorrupt, ContentError for
    a WIM that no boot manager starts."""
    summary = wim.check(path, path.name)
    if summary.pipable or summary.solid or summary.total_parts != 1:
        kind = "pipable" if summary.pipable else "solid" if summary.solid else "split"
        raise ContentError(
            f"{path.name}: a {kind} WIM, which no boot manager starts; export it: wimlib-imagex export {path.name} all new.wim --boot --compress=LZX"
        )
    if summary.boot_index == 0:
        raise ContentError(
            f"{path.name}: no image of it is marked as bootable; mark one: wimlib-imagex info {path.name} 1 --boot"
        )
    image = summary.images[summary.boot_index - 1]
    if image.architecture not in ("x86", "x64", "arm64"):
        found = image.architecture or "none told"
        raise ContentError(
            f"{path.name}: image {image.index} is for {found}; expected Windows PE for x86, x64 or arm64"
        )
    return image.index, image


def take_out(path: Path, index: int, folder: Path) -> tuple[str, ...]:
    """Bring the loader files of a WIM into our folder; the names that they have there."""
    chosen = choose(wim_tool.list_paths(path, index))
    if not chosen:
        return ()
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        wim_tool.extract(path, index, list(chosen.values()), Path(place))
        for name, inside in chosen.items():
            _bring(Path(place) / inside.lstrip("/"), folder / name)
    return tuple(sorted(chosen))


def generations(folder: Path, names: Iterable[str], architecture: str) -> tuple[str, ...]:
    """Below which CAs the UEFI loaders are signed, by their signatures; by their folder where one tells nothing. Raises
    ContentCorrupt for a loader that is broken or for another processor."""
    found = {_generation(folder / name, name, architecture) for name in names if name.endswith(UEFI_LOADER)}
    return tuple(sorted(found))


def file_table(names: Mapping[str, str], generation: str) -> dict[str, str]:
    """By what a name asked for may be found: whole, or by its last part; files of the wanted generation first. `names`:
    folded names of the folder and the real ones."""
    newer = {n.removeprefix(f"{GENERATION_2023}/"): r for n, r in names.items() if n.startswith(f"{GENERATION_2023}/")}
    older = {n: r for n, r in names.items() if not n.startswith(f"{GENERATION_2023}/")}
    first, second = (newer, older) if generation == GENERATION_2023 else (older, newer)
    table = {**second, **first}
    for name, real in list(table.items()):
        if not name.endswith(".mui"):  # each language has one of that name
            table.setdefault(name.rpartition("/")[2], real)
    for alias, name in ALIASES.items():
        if name in table:
            table.setdefault(alias, table[name])
    return table


def _generation(path: Path, name: str, architecture: str) -> str:
    by_place = GENERATION_2023 if name.startswith(GENERATION_2023) else GENERATION_2011
    try:
        with path.open("rb") as file:
            program = read_pe(file)
    except MalformedImage as error:
        raise ContentCorrupt(f"{name} of the WIM is no EFI program: {error}") from None
    if program.architecture != architecture:
        raise ContentCorrupt(f"{name} of the WIM is for {program.architecture}, its image for {architecture}")
    return program.windows_generation or by_place


def _bring(source: Path, target: Path) -> None:
    found = source.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
        raise ContentError(f"{target.name}: in the WIM it is no regular file of at most {MAX_FILE_BYTES} bytes")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(source, 0o640)
    os.rename(source, target)
