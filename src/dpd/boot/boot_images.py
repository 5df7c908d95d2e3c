# SPDX-License-Identifier: Apache-2.0
"""The boot images of this distribution point: <directory>/<id>/<version>/, each with meta.json and the files themselves.

Versions stand side by side. The newest is what an id means; a boot that began with one version ends with it, so that no
machine gets a loader of one and a WIM of another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from dpd.boot import grub_script, ipxe_script, winpe
from dpd.boot.bcd import RamdiskBoot, make_bcd
from dpd.boot.image_folder import FILES, RECORD, Progress, new_folder, publish, remove, sweep
from dpd.boot.image_kinds import NewImage, lay_out
from dpd.boot.image_record import BootImage, Kind, check_image_id, decode, encode
from dpd.boot.names import GRUB_WAITING, SCRIPT_NAME, SCRIPT_NAMES, is_grub_configuration, spellings, split_name
from dpd.boot.tree import BootContext, BootObject, in_memory
from dpd.content.boot_files import BootFile, BootFiles
from dpd.errors import ContentError, ContentNotFound

log = logging.getLogger(__name__)

PINNED = 8192  # tickets whose version is remembered


@dataclass(frozen=True, slots=True)
class _Version:
    """One version, open for look-ups."""

    image: BootImage
    files: BootFiles
    by_name: Mapping[str, Mapping[str, BootFile]]  # for each generation of loaders, by lower-case name

    def find(self, parts: tuple[str, ...], generation: str) -> BootFile | None:
        known = self.by_name[generation]
        return next((known[key] for key in spellings(parts) if key in known), None)


class BootImageStore:
    """`is_public(name)` tells whether the boot directory has a file, such as wimboot. Every method may be called from any
    thread; look-ups read a table that changes as a whole."""

    def __init__(
        self,
        directory: Path,
        *,
        is_public: Callable[[str], bool] = lambda name: False,
        generation: str = winpe.GENERATION_2011,
    ) -> None:
        self.directory = directory
        self.generation = (
            generation  # whose Windows loaders are handed out where an image has both; may change at any time
        )
        self._is_public = is_public
        self._changing = threading.Lock()
        self._pinning = threading.Lock()
        self._pinned: OrderedDict[tuple[str, str], int] = OrderedDict()
        sweep(directory)
        self._versions: dict[str, dict[int, _Version]] = {}
        for version in _load(directory):
            self._versions.setdefault(version.image.image_id, {})[version.image.version] = version
        self._names = _all_names(self._versions)

    # ---- what the operator asks

    def images(self) -> list[BootImage]:
        """All of them, by id, oldest version first."""
        ids = sorted(self._versions.items())
        return [version.image for _, versions in ids for _, version in sorted(versions.items())]

    def find(self, image_id: str, version: int | None = None) -> BootImage:
        """This version, or the newest. Raises ContentNotFound."""
        found = self._version(image_id, version)
        if found is None:
            which = f"boot image {image_id!r}" + ("" if version is None else f" version {version}")
            raise ContentNotFound(f"{which} is not here; `dpd boot-image list` shows what is")
        return found.image

    def add(self, new: NewImage, progress: Progress = lambda done, total: None) -> BootImage:
        """Take a new version in. Raises ContentError, ContentCorrupt, LibraryFull."""
        check_image_id(new.image_id)
        with self._changing, new_folder(self.directory) as folder:
            number = self._next_version(new.image_id)
            image = lay_out(new, folder / FILES, number, time.time(), progress)
            folder.joinpath(RECORD).write_bytes(encode(image))
            place = self.directory / image.image_id / str(image.version)
            publish(folder, place)
            self._put(_open(place, image))
        return image

    def refresh(self, image_id: str, progress: Progress = lambda done, total: None) -> BootImage:
        """Take the loader files of the newest version out of its WIM once more, as a version of its own with the same WIM.
        Raises ContentNotFound, ContentError."""
        image = self.find(image_id)
        if image.kind is not Kind.WINPE:
            raise ContentError(f"{image}: made of {image.kind} files, not of a WIM; add it again to change it")
        files = self.directory / image_id / str(image.version) / FILES
        new = NewImage(
            image_id,
            image.kind,
            (files / winpe.WIM,),
            description=image.description,
            sdi=files / winpe.SDI,
            is_default=image.is_default,
            via_ipxe=image.via_ipxe,
            is_ours=True,
            name=image.name,
        )
        return self.add(new, progress)

    def remove(self, image_id: str, version: int | None = None) -> BootImage:
        """Take this version out, or the newest. Raises ContentNotFound, ContentError."""
        with self._changing:
            image = self.find(image_id, version)
            remaining = {n: each for n, each in self._versions[image_id].items() if n != image.version}
            self._replace(image_id, remaining)
            try:
                remove(self.directory, self.directory / image_id / str(image.version))
            except OSError as error:
                raise ContentError(f"{image}: taken out, but its files stay: {error.strerror}") from None
        return image

    # ---- what machines ask

    def arches(self, image_id: str) -> frozenset[str]:
        """The firmware that can boot the newest version, by the names of option 93; empty where there is no such image."""
        found = self._version(image_id)
        return frozenset() if found is None else found.image.firmware

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        """The file that a machine means by a name. Only a machine that boots gets files; any gets its script."""
        parts = split_name(name)
        version = self._pinned_version(image_id, context.ticket_id) if image_id else None
        if parts[-1:] and parts[-1] in SCRIPT_NAMES:
            script = self._script(version, context)
            return None if script is None else in_memory(parts[-1], script.encode())
        if is_grub_configuration(parts, context.mac):
            script = self._grub_script(version, context)
            return None if script is None else in_memory(parts[-1], script.encode())
        if parts[-1:] == (GRUB_WAITING,):
            return in_memory(GRUB_WAITING, b"# wait\n") if context.outcome == "wait" else None
        if version is None or context.outcome not in ("boot", "prompt"):
            return None
        if version.image.kind is Kind.WINPE and parts[-1:] == (winpe.BCD,):
            return _bcd(version.image, context)
        file = version.find(parts, self.generation)
        return None if file is None else _object(version, file)

    def holds(self, name: str) -> bool:
        """Whether any image has a file of that name."""
        return any(key in self._names for key in spellings(split_name(name)))

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        """What a machine is told to load first. "" also where the loader of the rules, an iPXE, is to come first."""
        version = self._version(image_id)
        if version is None or arch not in version.image.firmware:
            return ""
        if client_class == "iPXE":
            return SCRIPT_NAME
        if version.image.via_ipxe:
            return ""
        if client_class != "HTTPClient":
            return self._firmware_loader(version, arch)
        if context.outcome == "prompt":  # firmware that boots by HTTP has no menu; the rules' iPXE has
            return ""
        name = self._firmware_loader(version, arch)
        return ipxe_script.url(context, name) if name else ""

    def _firmware_loader(self, version: _Version, arch: str) -> str:
        """Linux has none: firmware knows nothing of initrds and command lines."""
        if version.image.kind is Kind.EFI:
            return version.image.files[0]
        name = ipxe_script.NATIVE_LOADER.get(arch, winpe.UEFI_LOADER)
        return name if version.image.kind is Kind.WINPE and version.find((name,), self.generation) else ""

    def _script(self, version: _Version | None, context: BootContext) -> str | None:
        match context.outcome:
            case "wait":
                return ipxe_script.ask_pin(context) if context.asks_pin else ipxe_script.wait(context)
            case "abort":
                return ipxe_script.abort(context)
            case "boot" | "prompt" if version is not None:
                make = ipxe_script.prompt if context.outcome == "prompt" else ipxe_script.boot
                wimboot = ipxe_script.WIMBOOT.get(version.image.architecture, "")
                return make(version.image, context, has_wimboot=bool(wimboot) and self._is_public(wimboot))
        return None

    def _grub_script(self, version: _Version | None, context: BootContext) -> str | None:
        """Only for Linux: nothing else is started by way of GRUB, and a GRUB that is a boot image brings its own."""
        match context.outcome:
            case "wait":
                return grub_script.wait(context)
            case "abort":
                return grub_script.abort(context)
            case "boot" | "prompt" if version is not None and version.image.kind is Kind.LINUX:
                make = grub_script.prompt if context.outcome == "prompt" else grub_script.boot
                return make(version.image, context)
        return None

    # ---- the table

    def _version(self, image_id: str, version: int | None = None) -> _Version | None:
        versions = self._versions.get(image_id)
        if not versions:
            return None
        return versions.get(max(versions) if version is None else version)

    def _pinned_version(self, image_id: str, ticket_id: str) -> _Version | None:
        newest = self._version(image_id)
        if newest is None or not ticket_id:
            return newest
        with self._pinning:
            number = self._pinned.setdefault((ticket_id, image_id), newest.image.version)
            self._pinned.move_to_end((ticket_id, image_id))
            while len(self._pinned) > PINNED:
                self._pinned.popitem(last=False)
        return self._version(image_id, number) or newest

    def _next_version(self, image_id: str) -> int:
        """Behind every version that has a folder, also a damaged one that was left out."""
        folders = [int(place.name) for place in (self.directory / image_id).glob("*") if place.name.isdecimal()]
        return max(folders, default=0) + 1

    def _put(self, version: _Version) -> None:
        image = version.image
        self._replace(image.image_id, {**self._versions.get(image.image_id, {}), image.version: version})

    def _replace(self, image_id: str, versions: dict[int, _Version]) -> None:
        others = {name: each for name, each in self._versions.items() if name != image_id}
        self._versions = others | ({image_id: versions} if versions else {})
        self._names = _all_names(self._versions)


def _load(directory: Path) -> Iterator[_Version]:
    """Every version that is whole; one that is not is told and left where it is."""
    for place in sorted(directory.glob("*/*")):
        if not place.name.isdigit() or not place.is_dir():
            continue
        try:
            image = decode((place / RECORD).read_bytes())
            if (image.image_id, str(image.version)) != (place.parent.name, place.name):
                raise ContentError(f"meta.json is of {image}")
            yield _open(place, image)
        except (OSError, ContentError) as error:
            log.error("boot image left out", extra={"path": str(place), "error": str(error)})


def _open(place: Path, image: BootImage) -> _Version:
    files = BootFiles(place / FILES)
    found = {file.name: file for file in files.files()}
    if missing := [name for name in image.files if name not in found]:
        raise ContentError(f"{image}: {missing[0]} is missing below {place}; add the boot image again")
    names = {name.casefold(): name for name in found}
    tables = {
        generation: winpe.file_table(names, generation) if image.kind is Kind.WINPE else names
        for generation in (winpe.GENERATION_2011, winpe.GENERATION_2023)
    }
    by_name = {generation: {name: found[real] for name, real in table.items()} for generation, table in tables.items()}
    return _Version(image, files, by_name)


def _bcd(image: BootImage, context: BootContext) -> BootObject:
    boot = RamdiskBoot(
        is_uefi=context.arch != "bios",
        description=image.description or image.image_id,
        block_size=context.ramdisk_block_size,
        window_size=context.ramdisk_window_size,
        load_options=" ".join(context.boot_variables),
    )
    return _bcd_file(boot)


@lru_cache(maxsize=64)
def _bcd_file(boot: RamdiskBoot) -> BootObject:
    """Machines of one kind in one network get the same bytes, so they are made once."""
    return in_memory("BCD", make_bcd(boot))


def _object(version: _Version, file: BootFile) -> BootObject:
    return BootObject(
        os.path.basename(file.name),
        file.size_bytes,
        file.etag,
        file.mtime_ns,
        partial(version.files.open, file),
        completes_boot=file.name == version.image.last_file,
        may_block=False,
    )


def _all_names(versions: dict[str, dict[int, _Version]]) -> frozenset[str]:
    def names() -> Iterable[str]:
        for each in versions.values():
            for version in each.values():
                yield from version.by_name[winpe.GENERATION_2011]
                if version.image.kind is Kind.WINPE:
                    yield winpe.BCD

    return frozenset(names())
