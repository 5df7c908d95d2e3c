# SPDX-License-Identifier: Apache-2.0
"""The store of boot images: what the operator puts in, what machines get out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.boot.conftest import a_context, bz_image, content, efi_program

from dpd.boot.boot_images import BootImageStore
from dpd.boot.image_kinds import NewImage
from dpd.boot.image_record import BootImage, Kind
from dpd.errors import ContentError, ContentNotFound

Write = Callable[[str, bytes], Path]


@pytest.fixture
def store(tmp_path: Path) -> BootImageStore:
    return BootImageStore(tmp_path / "boot-images")


def add_linux(store: BootImageStore, write: Write, initrd: bytes = b"initrd", image_id: str = "LAB1") -> BootImage:
    files = (write("vmlinuz", bz_image()), write("initrd", initrd))
    return store.add(NewImage(image_id, Kind.LINUX, files, command_line="quiet"))


def add_efi(store: BootImageStore, write: Write, body: bytes = b"one", image_id: str = "EFI1") -> BootImage:
    return store.add(NewImage(image_id, Kind.EFI, (write("tool.efi", efi_program(body=body)),)))


def test_an_image_is_there_after_a_restart(store: BootImageStore, write: Write) -> None:
    added = [add_linux(store, write), add_efi(store, write)]
    again = BootImageStore(store.directory)
    assert again.images() == store.images() == sorted(added, key=lambda image: image.image_id)
    assert content(again.lookup("LAB1", "/boot/initrd.img", a_context())) == b"initrd"


@pytest.mark.parametrize("name", ["vmlinuz", "/vmlinuz", "\\VMLINUZ", "boot//Vmlinuz", "some/where/vmlinuz"])
def test_a_name_may_be_in_any_case_with_any_slashes_in_any_folder(
    store: BootImageStore, write: Write, name: str
) -> None:
    add_linux(store, write)
    assert content(store.lookup("LAB1", name, a_context())) == bz_image()


@pytest.mark.parametrize(
    "name", ["", "/", "meta.json", "../meta.json", "files/../../meta.json", "..", "vmlinuz/x", "LAB1"]
)
def test_no_name_leads_anywhere_else(store: BootImageStore, write: Write, name: str) -> None:
    add_linux(store, write)
    assert store.lookup("LAB1", name, a_context()) is None


def test_versions_stand_side_by_side_and_the_newest_counts(store: BootImageStore, write: Write) -> None:
    add_efi(store, write, b"one")
    add_efi(store, write, b"two")
    assert [image.version for image in store.images()] == [1, 2]
    assert content(store.lookup("EFI1", "tool.efi", a_context())) == efi_program(body=b"two")
    assert store.find("EFI1").version == 2
    assert store.find("EFI1", 1).version == 1


def test_a_boot_ends_with_the_version_it_began_with(store: BootImageStore, write: Write) -> None:
    add_efi(store, write, b"one")
    began = a_context(ticket_id="began")
    store.lookup("EFI1", "boot.ipxe", began)
    add_efi(store, write, b"two")
    assert content(store.lookup("EFI1", "tool.efi", began)) == efi_program(body=b"one")
    assert content(store.lookup("EFI1", "tool.efi", a_context(ticket_id="later"))) == efi_program(body=b"two")
    store.remove("EFI1", 1)
    assert content(store.lookup("EFI1", "tool.efi", began)) == efi_program(body=b"two")


def test_removing_takes_the_newest_or_the_version_named(store: BootImageStore, write: Write) -> None:
    for body in (b"one", b"two", b"three"):
        add_efi(store, write, body)
    assert store.remove("EFI1", 1).version == 1
    assert store.remove("EFI1").version == 3
    assert [image.version for image in BootImageStore(store.directory).images()] == [2]
    store.remove("EFI1")
    assert not store.holds("tool.efi")
    assert list(store.directory.iterdir()) == []
    with pytest.raises(ContentNotFound, match="dpd boot-image list"):
        store.remove("EFI1")


def test_a_version_number_is_not_used_again_while_a_newer_one_is_there(store: BootImageStore, write: Write) -> None:
    add_efi(store, write, b"one")
    add_efi(store, write, b"two")
    store.remove("EFI1", 1)
    assert add_efi(store, write, b"three").version == 3


def test_what_others_have_is_known_as_held(store: BootImageStore, write: Write) -> None:
    assert not store.holds("vmlinuz")
    add_linux(store, write)
    assert store.holds("/BOOT/vmlinuz")
    assert not store.holds("boot.ipxe")  # a script is made for whoever has a ticket, and is public otherwise
    assert not store.holds("other")


def test_only_a_machine_that_boots_gets_files(store: BootImageStore, write: Write) -> None:
    add_linux(store, write)
    for outcome, served in (("boot", True), ("prompt", True), ("wait", False), ("abort", False), ("silent", False)):
        found = store.lookup("LAB1", "vmlinuz", a_context(outcome=outcome))
        assert (found is not None) == served, outcome


@pytest.mark.parametrize("name", ["boot.ipxe", "/boot/autoexec.ipxe", "efi\\SCRIPT.ipxe"])
def test_an_ipxe_gets_its_script_in_every_folder(store: BootImageStore, write: Write, name: str) -> None:
    add_linux(store, write)
    assert b"kernel http://192.0.2.1:8080/boot/vmlinuz " in content(store.lookup("LAB1", name, a_context()))
    assert b"choose" in content(store.lookup("LAB1", name, a_context(outcome="prompt")))
    waiting = content(store.lookup("", name, a_context(outcome="wait", code="K7Q2")))
    assert b"K7Q2" in waiting
    assert b"read pin" in content(store.lookup("", name, a_context(outcome="wait", asks_pin=True)))
    assert b"exit" in content(store.lookup("", name, a_context(outcome="abort")))
    assert store.lookup("", name, a_context()) is None  # the rules' own script
    assert store.lookup("GONE", name, a_context()) is None


@pytest.mark.parametrize("name", ["/grub/grub.cfg", "grub.cfg-01-52-54-00-12-34-56"])
def test_a_grub_gets_its_configuration_where_linux_is_booted(store: BootImageStore, write: Write, name: str) -> None:
    add_linux(store, write)
    add_efi(store, write)
    assert b"linux (tftp,192.0.2.1)/vmlinuz " in content(store.lookup("LAB1", name, a_context()))
    assert b"menuentry" in content(store.lookup("LAB1", name, a_context(outcome="prompt")))
    assert b"K7Q2" in content(store.lookup("", name, a_context(outcome="wait", code="K7Q2")))
    assert b"reboot" in content(store.lookup("", name, a_context(outcome="abort")))
    assert store.lookup("", name, a_context()) is None  # the boot directory's own
    assert store.lookup("EFI1", name, a_context()) is None  # that may be a GRUB, which would start itself
    assert store.lookup("", "dpd-wait.cfg", a_context(outcome="wait")) is not None
    assert store.lookup("LAB1", "dpd-wait.cfg", a_context()) is None


def test_the_first_file_depends_on_what_asks(store: BootImageStore, write: Write) -> None:
    add_linux(store, write)
    add_efi(store, write)
    context = a_context()
    assert store.loader("LAB1", "uefi-x64", "iPXE", context) == "boot.ipxe"
    assert store.loader("LAB1", "bios", "PXEClient", context) == ""  # the rules' iPXE comes first
    assert store.loader("EFI1", "uefi-x64", "PXEClient", context) == "tool.efi"
    assert store.loader("EFI1", "uefi-x64", "HTTPClient", context) == "http://192.0.2.1:8080/boot/tool.efi"
    assert store.loader("EFI1", "uefi-x64", "HTTPClient", a_context(outcome="prompt")) == ""  # an iPXE can ask
    assert store.loader("EFI1", "bios", "iPXE", context) == ""
    assert store.loader("GONE", "uefi-x64", "iPXE", context) == ""
    assert store.arches("LAB1") == {"bios", "uefi-x64"}
    assert store.arches("GONE") == frozenset()


def test_the_last_file_completes_the_boot(store: BootImageStore, write: Write) -> None:
    add_linux(store, write)
    found = {name: store.lookup("LAB1", name, a_context()) for name in ("vmlinuz", "initrd.img", "boot.ipxe")}
    assert {name for name, each in found.items() if each is not None and each.completes_boot} == {"initrd.img"}


def test_a_damaged_version_is_left_out_and_the_others_serve(
    store: BootImageStore, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    add_efi(store, write, image_id="A")
    add_efi(store, write, image_id="B")
    add_efi(store, write, image_id="C")
    (store.directory / "A" / "1" / "meta.json").write_text("{}")
    (store.directory / "B" / "1" / "files" / "tool.efi").unlink()
    (store.directory / "D").mkdir()
    assert [image.image_id for image in BootImageStore(store.directory).images()] == ["C"]
    assert len([record for record in caplog.records if record.message == "boot image left out"]) == 2


def test_a_damaged_version_does_not_keep_the_next_one_out(store: BootImageStore, write: Write) -> None:
    add_efi(store, write, b"one")
    add_efi(store, write, b"two")
    (store.directory / "EFI1" / "2" / "meta.json").write_text("{}")
    again = BootImageStore(store.directory)
    assert again.find("EFI1").version == 1
    assert add_efi(again, write, b"three").version == 3


@pytest.mark.parametrize("image_id", ["", "../x", "a b"])
def test_an_id_that_is_none_is_refused_before_anything_is_made(
    store: BootImageStore, write: Write, image_id: str
) -> None:
    with pytest.raises(ContentError, match="boot image id"):
        add_efi(store, write, image_id=image_id)
    assert not store.directory.exists()


def test_look_ups_go_on_while_versions_come_and_go(store: BootImageStore, write: Write) -> None:
    add_efi(store, write, b"one")
    stop = threading.Event()
    wrong: list[object] = []

    def look() -> None:
        while not stop.is_set():
            found = store.lookup("EFI1", "tool.efi", a_context(ticket_id=""))
            if found is None or not store.holds("tool.efi"):
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for body in (b"two", b"three", b"four"):
        add_efi(store, write, body)
        store.remove("EFI1", store.find("EFI1").version - 1)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
