# SPDX-License-Identifier: Apache-2.0
"""Each way in which a Secure Boot chain breaks is named, and refused from its first loader on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from tests.boot.chain_files import Signers, grub, make_signers, write_chain
from tests.boot.signing import ARM64, authority, make_pe, sbat, sign

from dpd.boot.chain import Chain, ChainFault, ChainReport, check_chain, read_found
from dpd.boot.chain_manifest import make_chain
from dpd.boot.revocations import Revocations
from dpd.content.boot_files import BootFiles

NAMES = ("grubx64.efi", "shimx64.efi", "vmlinuz")


@pytest.fixture(scope="module")
def signers() -> Signers:
    return make_signers()


@pytest.fixture
def directory(tmp_path: Path, signers: Signers) -> Path:
    write_chain(tmp_path, signers)
    return tmp_path


@pytest.fixture
def chain(directory: Path) -> Chain:
    """The manifest of the directory as it was made."""
    return make_chain(BootFiles(directory), loads=[("grubx64.efi", "vmlinuz")])


@pytest.fixture
def check(directory: Path, chain: Chain) -> Callable[..., ChainReport]:
    """Judge the directory as it is now, by the first manifest or another."""

    def judge(by: Chain = chain, *, revoked: Revocations | None = None) -> ChainReport:
        return check_chain(by, BootFiles(directory), revoked or Revocations())

    return judge


def remade(directory: Path) -> Chain:
    """A manifest of the files as they are now, so that what is judged is not the hash."""
    return make_chain(BootFiles(directory), loads=[("grubx64.efi", "vmlinuz")])


def faults(report: ChainReport) -> list[tuple[str, ChainFault]]:
    return [(finding.file, finding.fault) for finding in report.findings]


def test_a_sound_chain_is_handed_out(check: Callable[..., ChainReport]) -> None:
    assert check() == ChainReport()


def test_another_file_than_the_manifests(directory: Path, signers: Signers, check: Callable[..., ChainReport]) -> None:
    (directory / "grubx64.efi").write_bytes(grub(signers, generation=6))
    report = check()
    assert faults(report) == [("grubx64.efi", ChainFault.WRONG_HASH)]
    assert report.refused["shimx64.efi"].startswith("the Secure Boot chain is broken: grubx64.efi: its SHA-256 is ")


def test_a_broken_file_takes_along_what_leads_to_it_and_not_what_it_leads_to(
    directory: Path, check: Callable[..., ChainReport]
) -> None:
    (directory / "grubx64.efi").unlink()
    report = check()
    assert faults(report) == [("grubx64.efi", ChainFault.MISSING)]
    assert sorted(report.refused) == ["grubx64.efi", "shimx64.efi"]


def test_a_kernel_that_is_missing_takes_the_whole_chain_along(
    directory: Path, check: Callable[..., ChainReport]
) -> None:
    (directory / "vmlinuz").unlink()
    assert sorted(check().refused) == sorted(NAMES)


def test_a_chain_of_its_own_goes_on(directory: Path, signers: Signers) -> None:
    (directory / "other.efi").write_bytes(sign(make_pe(sbat("grub,5,x,x,x,x")), signers.vendor))
    chain = remade(directory)
    (directory / "vmlinuz").unlink()
    refused = check_chain(chain, BootFiles(directory), Revocations()).refused
    assert "other.efi" not in refused


def test_a_byte_changed_is_both_another_file_and_a_broken_signature(
    directory: Path, check: Callable[..., ChainReport]
) -> None:
    changed = bytearray((directory / "shimx64.efi").read_bytes())
    changed[0x400] ^= 1
    (directory / "shimx64.efi").write_bytes(changed)
    assert faults(check()) == [("shimx64.efi", ChainFault.WRONG_HASH), ("shimx64.efi", ChainFault.BAD_SIGNATURE)]


def test_another_signer(directory: Path, chain: Chain, check: Callable[..., ChainReport]) -> None:
    (directory / "grubx64.efi").write_bytes(
        sign(make_pe(sbat("grub,5,x,x,x,x")), authority("Other CA").issue("Vendor Signer"))
    )
    (now,) = (file for file in remade(directory).files if file.name == "grubx64.efi")
    expected = [replace(file, sha256=now.sha256) if file.name == now.name else file for file in chain.files]
    (finding,) = check(replace(chain, files=tuple(expected))).findings
    assert (finding.file, finding.fault) == ("grubx64.efi", ChainFault.WRONG_SIGNER)
    assert finding.detail == "signed by 'Vendor Signer' of 'Other CA', the manifest has 'Vendor Signer' of 'Vendor CA'"


def test_an_unsigned_file_in_a_signed_ones_place(
    directory: Path, chain: Chain, check: Callable[..., ChainReport]
) -> None:
    (directory / "vmlinuz").write_bytes(make_pe())
    report = check()
    assert ("vmlinuz", ChainFault.WRONG_SIGNER) in faults(report)
    assert "signed by nobody" in report.findings[-1].detail


def test_one_of_two_signatures_is_enough(directory: Path, signers: Signers) -> None:
    """Debian's shim carries one of each generation of Microsoft's authorities."""
    both = sign(make_pe(), authority("UEFI CA 2023").issue("New"), signers.vendor)
    (directory / "vmlinuz").write_bytes(both)
    chain = remade(directory)
    files = [replace(f, signer="Vendor Signer", issuer="Vendor CA") if f.name == "vmlinuz" else f for f in chain.files]
    assert check_chain(replace(chain, files=tuple(files)), BootFiles(directory), Revocations()) == ChainReport()


def test_a_loader_for_other_machines_than_the_one_that_loads_it(directory: Path, signers: Signers) -> None:
    (directory / "grubx64.efi").write_bytes(grub(signers, machine=ARM64))
    report = check_chain(remade(directory), BootFiles(directory), Revocations())
    assert sorted(faults(report)) == [
        ("grubx64.efi", ChainFault.WRONG_ARCHITECTURE),
        ("vmlinuz", ChainFault.WRONG_ARCHITECTURE),
    ]
    assert report.findings[1].detail == "it is for arm64, and shimx64.efi, which loads it, for x64"


def test_another_architecture_than_the_manifests(chain: Chain, check: Callable[..., ChainReport]) -> None:
    files = [replace(file, architecture="arm64") if file.name == "vmlinuz" else file for file in chain.files]
    assert faults(check(replace(chain, files=tuple(files)))) == [("vmlinuz", ChainFault.WRONG_ARCHITECTURE)]


def test_a_grub_below_the_level_of_its_shim(directory: Path, signers: Signers) -> None:
    (directory / "grubx64.efi").write_bytes(grub(signers, generation=3))
    (finding,) = check_chain(remade(directory), BootFiles(directory), Revocations()).findings
    assert (finding.file, finding.fault) == ("grubx64.efi", ChainFault.SBAT_TOO_LOW)
    assert finding.detail == "SBAT generation grub 3, at least 4 is asked for"


def test_a_level_that_the_operator_asks_for(chain: Chain, check: Callable[..., ChainReport]) -> None:
    assert faults(check(replace(chain, sbat_minimum={"shim": 5, "grub": 2}))) == [
        ("shimx64.efi", ChainFault.SBAT_TOO_LOW)
    ]


def test_shim_starts_nothing_without_sbat_but_grub_does(directory: Path, signers: Signers) -> None:
    (directory / "grubx64.efi").write_bytes(grub(signers, with_sbat=False))
    report = check_chain(remade(directory), BootFiles(directory), Revocations())
    assert faults(report) == [("grubx64.efi", ChainFault.SBAT_MISSING)]


def test_a_revoked_hash(directory: Path, check: Callable[..., ChainReport]) -> None:
    boot_files = BootFiles(directory)
    (file,) = (file for file in boot_files.files() if file.name == "vmlinuz")
    image = read_found(boot_files, file).image
    assert image is not None
    report = check(revoked=Revocations(frozenset({image.authenticode_sha256})))
    assert faults(report) == [("vmlinuz", ChainFault.REVOKED)]
    assert sorted(report.refused) == sorted(NAMES)


def test_a_revoked_certificate(directory: Path, signers: Signers, check: Callable[..., ChainReport]) -> None:
    fingerprint = signers.firmware.chain[1].fingerprint(hashes.SHA256()).hex()
    (finding,) = check(revoked=Revocations(certificates=frozenset({fingerprint}))).findings
    assert (finding.file, finding.fault) == ("shimx64.efi", ChainFault.REVOKED)
    assert finding.detail == "the certificate of 'UEFI CA' is on the list"


def test_a_file_that_is_no_image_any_more(directory: Path, check: Callable[..., ChainReport]) -> None:
    (directory / "grubx64.efi").write_bytes(b"<html>404</html>")
    assert ("grubx64.efi", ChainFault.UNREADABLE) in faults(check())


def test_a_file_that_was_never_an_image_is_held_by_its_hash_alone(directory: Path) -> None:
    (directory / "grub.cfg").write_text("boot\n")
    chain = make_chain(BootFiles(directory), ["grub.cfg"])
    assert check_chain(chain, BootFiles(directory), Revocations()) == ChainReport()
    (directory / "grub.cfg").write_text("halt\n")
    report = check_chain(chain, BootFiles(directory), Revocations())
    assert faults(report) == [("grub.cfg", ChainFault.WRONG_HASH)]


def test_a_file_exchanged_for_a_link_is_missing(directory: Path, chain: Chain, tmp_path: Path) -> None:
    boot_files = BootFiles(directory)
    (directory / "vmlinuz").unlink()
    os.symlink("/etc/passwd", directory / "vmlinuz")
    assert faults(check_chain(chain, boot_files, Revocations())) == [("vmlinuz", ChainFault.MISSING)]


def test_chains_that_lead_in_a_circle_end(chain: Chain, check: Callable[..., ChainReport], directory: Path) -> None:
    files = [replace(file, loads=("shimx64.efi",)) if file.name == "vmlinuz" else file for file in chain.files]
    (directory / "vmlinuz").unlink()
    assert sorted(check(replace(chain, files=tuple(files))).refused) == sorted(NAMES)
