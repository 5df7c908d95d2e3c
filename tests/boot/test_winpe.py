# SPDX-License-Identifier: Apache-2.0
"""What is taken out of a boot.wim, and how a boot manager finds it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.boot.boot_manager import BootManager
from tests.boot.conftest import a_context, content
from tests.boot.hives import needs_hivex
from tests.boot.wims import NEEDS_WIMLIB, OS_VERSION, adk_tree, make_wim, signed

from dpd.boot.boot_images import BootImageStore
from dpd.boot.image_kinds import NewImage
from dpd.boot.image_record import BootImage, Kind
from dpd.boot.tree import BootContext
from dpd.boot.winpe import BCD_NAME, choose, file_table
from dpd.errors import ContentCorrupt, ContentError

pytestmark = [*NEEDS_WIMLIB, *needs_hivex]


@pytest.fixture(scope="module")
def wim_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A boot.wim for this processor, made once."""

    @cache
    def make(architecture: str) -> Path:
        return make_wim(tmp_path_factory.mktemp(architecture) / "winpe.wim", adk_tree(architecture))

    return make


@pytest.fixture
def store(tmp_path: Path) -> BootImageStore:
    return BootImageStore(tmp_path / "boot-images", is_public=lambda name: name == "wimboot")


def add(store: BootImageStore, wim: Path, image_id: str = "LAB5", **options: Any) -> BootImage:
    return store.add(NewImage(image_id, Kind.WINPE, (wim,), **options))


def fetcher(store: BootImageStore, context: BootContext) -> Callable[[str], bytes | None]:
    def fetch(name: str) -> bytes | None:
        found = store.lookup("LAB5", name, context)
        return None if found is None else content(found)

    return fetch


@pytest.mark.parametrize(("architecture", "arch"), [("x64", "uefi-x64"), ("x86", "uefi-x86"), ("arm64", "uefi-arm64")])
def test_a_uefi_boot_manager_finds_every_name_it_asks_for(
    store: BootImageStore, wim_of: Callable[[str], Path], tmp_path: Path, architecture: str, arch: str
) -> None:
    wim = wim_of(architecture)
    image = add(store, wim)
    assert (image.architecture, image.generations) == (architecture, ("2011", "2023"))
    assert (image.os_version, image.description) == (OS_VERSION, "Microsoft Windows PE (x64)")
    assert arch in store.arches("LAB5")
    context = a_context(arch, ramdisk_block_size=16384, ramdisk_window_size=16)
    assert store.loader("LAB5", arch, "PXEClient", context) == "bootmgfw.efi"
    fetch = fetcher(store, context)
    assert fetch("bootmgfw.efi") == signed("2011", architecture)
    manager = BootManager(fetch, tmp_path)
    manager.start(BCD_NAME)
    assert manager.missed == []
    assert (manager.sdi, manager.wim) == (b"sdi", wim.read_bytes())
    assert (manager.block_size, manager.window_size) == (16384, 16)
    assert inside(wim, manager.loader_path) == b"winload.efi"


@pytest.mark.parametrize("architecture", ["x64", "x86"])
def test_a_bios_boot_manager_does_too(
    store: BootImageStore, wim_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    wim = wim_of(architecture)
    add(store, wim)
    context = a_context("bios")
    fetch = fetcher(store, context)
    assert store.loader("LAB5", "bios", "PXEClient", context) == "pxeboot.n12"
    assert fetch("pxeboot.n12") == b"pxeboot.n12"
    assert fetch("Boot\\bootmgr.exe") == fetch("bootmgr.exe") == b"bootmgr.exe"
    manager = BootManager(fetch, tmp_path, is_uefi=False)
    manager.start()
    assert manager.missed == []
    assert (manager.block_size, manager.window_size) == (0, 0)  # the loader's own
    assert inside(wim, manager.loader_path) == b"winload.exe"


def inside(wim: Path, path: str) -> bytes:
    """What the WIM has at a path of the BCD, in wimlib's eyes."""
    command = ["wimlib-imagex", "extract", str(wim), "1", path.replace("\\", "/"), "--to-stdout"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_an_available_image_is_the_same_file_for_firmware_with_a_menu_and_a_script_for_ipxe(
    store: BootImageStore, wim_of: Callable[[str], Path]
) -> None:
    add(store, wim_of("x64"))
    context = a_context(outcome="prompt")
    assert store.loader("LAB5", "bios", "PXEClient", context) == "pxeboot.n12"
    assert store.loader("LAB5", "uefi-x64", "PXEClient", context) == "bootmgfw.efi"
    assert store.loader("LAB5", "uefi-x64", "HTTPClient", context) == ""  # HTTP boot has no menu, the rules' iPXE has
    assert store.loader("LAB5", "uefi-x64", "iPXE", context) == "boot.ipxe"


def test_http_boot_gets_a_url(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("x64"))
    url = store.loader("LAB5", "uefi-x64", "HTTPClient", a_context())
    assert url == "http://192.0.2.1:8080/boot/bootmgfw.efi"


def test_arm64_has_nothing_for_a_bios(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("arm64"))
    assert store.arches("LAB5") == {"uefi-arm64"}
    assert store.loader("LAB5", "bios", "PXEClient", a_context("bios")) == ""


def test_the_generation_chooses_loaders_and_fonts(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("x64"))
    fetch = fetcher(store, a_context())
    assert (fetch("bootmgfw.efi"), fetch("\\Boot\\Fonts\\wgl4_boot.ttf")) == (signed("2011"), b"wgl4_boot.ttf")
    store.generation = "2023"
    assert (fetch("bootmgfw.efi"), fetch("\\Boot\\Fonts\\wgl4_boot.ttf")) == (signed("2023"), b"2023 wgl4_boot.ttf")
    assert fetch("/EFI/BOOT/BOOTX64.EFI") == signed("2023")
    assert fetch("bootmgr.exe") == b"bootmgr.exe"  # has no newer one


def test_an_image_of_one_generation_serves_that_whatever_is_wished(store: BootImageStore, tmp_path: Path) -> None:
    tree = {path: file for path, file in adk_tree().items() if "_EX" not in path}
    tree["Windows/Boot/EFI/bootmgfw.efi"] = signed("2023")  # as on media that Microsoft signed anew
    assert add(store, make_wim(tmp_path / "new.wim", tree)).generations == ("2023",)
    for store.generation in ("2011", "2023"):
        assert fetcher(store, a_context())("bootmgfw.efi") == signed("2023")


def test_the_wim_is_on_the_disk_once(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    wim = wim_of("x64")
    image = add(store, wim)
    folder = store.directory / "LAB5" / "1"
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert image.size_bytes <= stored < 2 * wim.stat().st_size + 20000
    assert len(list(store.directory.rglob("*.wim"))) == 1
    assert [path.name for path in folder.iterdir()].count("files") == 1
    assert len(list(folder.iterdir())) == 2  # nothing of the extraction is left


def test_refresh_takes_the_loaders_out_again_and_shares_the_wim(
    store: BootImageStore, wim_of: Callable[[str], Path]
) -> None:
    first = add(store, wim_of("x64"), description="Lab", is_default=True)
    (store.directory / "LAB5" / "1" / "files" / "pxeboot.n12").write_bytes(b"damaged")
    second = store.refresh("LAB5")
    assert (second.version, second.name, second.description, second.is_default) == (2, "winpe.wim", "Lab", True)
    assert second.files == first.files
    assert fetcher(store, a_context("bios"))("pxeboot.n12") == b"pxeboot.n12"
    inodes = {path.stat().st_ino for path in store.directory.rglob("boot.wim")}
    assert len(inodes) == 1
    store.remove("LAB5", 1)
    assert fetcher(store, a_context())("boot.wim") == wim_of("x64").read_bytes()


def test_a_file_that_is_ours_is_not_copied(store: BootImageStore, tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "sent.wim", adk_tree())
    add(store, wim, is_ours=True)
    assert (store.directory / "LAB5" / "1" / "files" / "boot.wim").stat().st_ino == wim.stat().st_ino


def test_ipxe_boots_it_by_wimboot(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("x64"))
    script = content(store.lookup("LAB5", "boot.ipxe", a_context())).decode()
    assert "kernel http://192.0.2.1:8080/boot/wimboot || goto failed" in script
    add(store, wim_of("arm64"), "ARM")
    arm = content(store.lookup("ARM", "boot.ipxe", a_context("uefi-arm64"))).decode()
    assert "chain --autofree tftp://192.0.2.1/bootmgfw.efi" in arm  # there is no wimboot.arm64


def test_an_image_for_ipxe_alone_leaves_firmware_to_the_rules(
    store: BootImageStore, wim_of: Callable[[str], Path]
) -> None:
    add(store, wim_of("x64"), via_ipxe=True)
    assert store.loader("LAB5", "uefi-x64", "PXEClient", a_context()) == ""
    assert store.loader("LAB5", "uefi-x64", "HTTPClient", a_context()) == ""
    assert store.loader("LAB5", "uefi-x64", "iPXE", a_context()) == "boot.ipxe"


def test_the_wim_is_what_a_boot_ends_with(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("x64"))
    found = {name: store.lookup("LAB5", name, a_context()) for name in ("sources/boot.wim", "Boot/boot.sdi", "BCD")}
    assert {name for name, each in found.items() if each is not None and each.completes_boot} == {"sources/boot.wim"}
    assert store.holds("\\Boot\\BCD")


def test_a_bcd_is_the_same_file_each_time_it_is_asked_for(store: BootImageStore, wim_of: Callable[[str], Path]) -> None:
    add(store, wim_of("x64"))
    first, second = (store.lookup("LAB5", BCD_NAME, a_context()) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.etag, first.size_bytes) == (second.etag, second.size_bytes)
    told = content(store.lookup("LAB5", BCD_NAME, a_context(affinity_mode="auto")))
    assert "dpd.affinity=auto".encode("utf-16-le") in told
    bios = store.lookup("LAB5", BCD_NAME, a_context("bios"))
    assert bios is not None
    assert bios.etag != first.etag


def without(*parts: str) -> dict[str, bytes]:
    return {path: file for path, file in adk_tree().items() if not any(part in path for part in parts)}


@pytest.mark.parametrize(
    ("tree", "options", "message"),
    [
        (without("boot.sdi"), (), "no boot.sdi in it; give one with --sdi"),
        (without("bootmgfw", "bootmgr.exe"), (), "no boot manager in it"),
        (without("kernel32"), (), "expected Windows PE for x86, x64 or arm64"),
        (adk_tree() | {"Windows/Boot/EFI/bootmgfw.efi": b"MZ no"}, (), "bootmgfw.efi of the WIM is no EFI program"),
        (adk_tree() | {"Windows/Boot/EFI/bootmgfw.efi": signed("2011", "arm64")}, (), "is for arm64, its image for x64"),
        (adk_tree(), ("--solid",), "a solid WIM"),
        (adk_tree(), ("--pipable",), "a pipable WIM"),
    ],
)  # fmt: skip
def test_a_wim_that_would_not_boot_is_refused_with_the_next_step(
    store: BootImageStore, tmp_path: Path, tree: dict[str, bytes], options: tuple[str, ...], message: str
) -> None:
    wim = make_wim(tmp_path / "bad.wim", tree, *[each for each in options if each != "--solid"])
    if "--solid" in options:
        subprocess.run(["wimlib-imagex", "optimize", wim, "--solid"], capture_output=True, check=True)
    with pytest.raises(ContentError, match=message.replace(".", r"\.")):
        add(store, wim)
    assert store.images() == []
    assert list(store.directory.iterdir()) == []


def test_a_wim_without_a_bootable_image_says_how_to_mark_one(store: BootImageStore, tmp_path: Path) -> None:
    wim = make_wim(tmp_path / "plain.wim", adk_tree(), boot=False)
    with pytest.raises(ContentError, match=r"wimlib-imagex info plain\.wim 1 --boot"):
        add(store, wim)


def test_what_is_no_wim_is_named(store: BootImageStore, tmp_path: Path) -> None:
    (tmp_path / "text.wim").write_bytes(b"text" * 100)
    with pytest.raises(ContentCorrupt, match=r"text\.wim: no WIM"):
        add(store, tmp_path / "text.wim")


def test_a_boot_sdi_can_be_given_for_a_wim_without_one(store: BootImageStore, tmp_path: Path) -> None:
    (tmp_path / "boot.sdi").write_bytes(b"from the ADK")
    wim = make_wim(tmp_path / "nosdi.wim", without("boot.sdi"))
    add(store, wim, sdi=tmp_path / "boot.sdi")
    assert fetcher(store, a_context())("\\Boot\\boot.sdi") == b"from the ADK"
    store.refresh("LAB5")
    assert fetcher(store, a_context())("\\Boot\\boot.sdi") == b"from the ADK"


def test_paths_are_chosen_in_any_case_and_the_first_place_counts() -> None:
    paths = [
        "/WINDOWS/boot/PXE/BootMgr.exe",
        "/sms/boot/boot.sdi",
        "/Windows/Boot/DVD/PCAT/boot.sdi",
        "/other/boot.sdi",
    ]
    assert choose(paths) == {"bootmgr.exe": paths[0], "boot.sdi": paths[2]}
    assert choose(["/Windows/Boot/EFI/../x/bootmgfw.efi", "/Windows/Boot/Fonts/a/b.ttf"]) == {}


def test_languages_are_told_apart_and_last_parts_are_not_theirs() -> None:
    names = {name: name for name in ("de-de/bootmgfw.efi.mui", "fonts/a.ttf", "2023/fonts/a.ttf", "2023/b.efi")}
    table = file_table(names, "2011")
    assert "bootmgfw.efi.mui" not in table
    assert (table["a.ttf"], table["fonts/a.ttf"], table["b.efi"]) == ("fonts/a.ttf", "fonts/a.ttf", "2023/b.efi")
    assert file_table(names, "2023")["a.ttf"] == "2023/fonts/a.ttf"
