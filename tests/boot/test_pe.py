# SPDX-License-Identifier: Apache-2.0
"""PE images: what is told of a sound one, and that a broken one is refused by name."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.boot.signing import (
    ARM64,
    PE_AT,
    X64,
    X86,
    Signer,
    authenticode,
    authority,
    make_pe,
    sbat,
    sign,
)

from dpd.boot.authenticode import SignatureFault
from dpd.boot.pe import Architecture, PeImage, read_pe
from dpd.errors import MalformedImage


@pytest.fixture(scope="module")
def signer() -> Signer:
    return authority("Test CA").issue("Test Signer")


def read(content: bytes) -> PeImage:
    return read_pe(BytesIO(content))


def test_an_unsigned_image() -> None:
    image = make_pe()
    found = read(image)
    assert found == PeImage(
        Architecture.X64, "efi-application", len(image), authenticode_sha256=authenticode(image).hex()
    )


@pytest.mark.parametrize(("machine", "name"), [(X86, "x86"), (X64, "x64"), (ARM64, "arm64"), (0x01C2, "arm")])
def test_the_architecture(machine: int, name: str) -> None:
    assert read(make_pe(machine=machine)).architecture == name


def test_a_loader_of_windows() -> None:
    assert read(make_pe(subsystem=16)).subsystem == "windows-boot-application"


def test_the_hash_is_the_same_before_and_after_signing(signer: Signer) -> None:
    image = make_pe(sbat("grub,5,FSF,grub,2.06,u"), tail=b"overlay!")
    signed = sign(image, signer)
    assert read(signed).authenticode_sha256 == read(image).authenticode_sha256
    assert read(signed).signatures[0].fault is None


def test_two_signatures(signer: Signer) -> None:
    other = authority("Other CA").issue("Other Signer")
    found = read(sign(make_pe(), signer, other))
    assert [(s.signer, s.issuer, s.fault) for s in found.signatures] == [
        ("Test Signer", "Test CA", None),
        ("Other Signer", "Other CA", None),
    ]


def test_a_byte_changed_after_signing(signer: Signer) -> None:
    signed = bytearray(sign(make_pe(), signer))
    signed[0x400] ^= 1
    assert [s.fault for s in read(bytes(signed)).signatures] == [SignatureFault.CHANGED]


def test_sbat_generations() -> None:
    found = read(make_pe(sbat("grub,5,FSF,grub,2.06,u", "grub.debian,4,Debian,grub2,2.06-13,u")))
    assert found.generations == {"sbat": 1, "grub": 5, "grub.debian": 4}


def test_the_level_of_a_shim_stands_in_a_section_with_a_long_name() -> None:
    """Names of more than 8 characters are in the string table, which MinGW's linker puts behind the sections."""
    level = b"sbat,1,2024040900\nshim,4\ngrub,4\n\0sbat,1,2025051000\ngrub,5\n\0"
    image = bytearray(make_pe(("/4", struct.pack("<III", 0, 8, 41) + level)))
    struct.pack_into("<II", image, PE_AT + 12, len(image), 0)
    image += struct.pack("<I", 15) + b".sbatlevel\0"
    assert dict(read(bytes(image)).sbat_level) == {"shim": 4, "grub": 4}


@pytest.mark.parametrize(
    ("authority_name", "generation"),
    [("Windows UEFI CA 2023", "2023"), ("Microsoft Windows Production PCA 2011", "2011"), ("Some other CA", "")],
)
def test_the_two_generations_of_windows_loaders(authority_name: str, generation: str) -> None:
    issuer = authority("Microsoft Root Certificate Authority").issue(authority_name)
    assert read(sign(make_pe(subsystem=16), issuer.issue("Microsoft Windows"))).windows_generation == generation


def test_a_changed_windows_loader_has_no_generation() -> None:
    signed = bytearray(sign(make_pe(), authority("Windows UEFI CA 2023").issue("Microsoft Windows")))
    signed[0x400] ^= 1
    assert read(bytes(signed)).windows_generation == ""


def test_an_unsigned_loader_has_no_generation() -> None:
    assert read(make_pe()).windows_generation == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!ipxe\n" + bytes(100), "no_pe"),
        (make_pe(machine=0x1234), "unknown_machine"),
        (make_pe(subsystem=3), "not_bootable"),
        (make_pe((".sbat", b"nonsense\n")), "bad_sbat"),
        (make_pe((".sbat", bytes(1 << 17))), "bad_sections"),
    ],
)
def test_what_is_no_boot_loader_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedImage) as caught:
        read(content)
    assert caught.value.reason == reason, str(caught.value)


@given(st.data())
def test_any_bytes_are_an_image_or_refused(data: st.DataObject) -> None:
    image = bytearray(make_pe(sbat("grub,5,FSF,grub,2.06,u")))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 0x2FF) | st.integers(0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    content = bytes(image[: data.draw(st.integers(0, len(image)) | st.just(len(image)))])
    with suppress(MalformedImage):
        assert read(content).size_bytes == len(content)
