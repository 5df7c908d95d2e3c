# SPDX-License-Identifier: Apache-2.0
"""What is read out of signed loaders, beside what pesign, sbverify and objcopy say of the same files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.boot.chain_files import make_signers, shim
from tests.boot.signing import Signer, authority, make_pe, sbat, sign

from dpd.boot.authenticode import SignatureFault
from dpd.boot.chain import ChainReport
from dpd.boot.chain_manifest import check_manifest, format_manifest, make_chain
from dpd.boot.pe import PeImage, read_pe
from dpd.content.boot_files import BootFiles

SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
IPXE = Path("/usr/lib/ipxe/ipxe.efi")


def read(path: Path) -> PeImage:
    with path.open("rb") as file:
        return read_pe(file)


def said(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def signer() -> Signer:
    return authority("Operator CA").issue("Operator Signer")


@pytest.fixture
def pem(tmp_path: Path, signer: Signer) -> tuple[Path, Path]:
    """Key and certificate of the signer as sbsign and sbverify take them."""
    key, certificate = tmp_path / "signer.key", tmp_path / "signer.pem"
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(signer.chain[0].public_bytes(Encoding.PEM))
    return key, certificate


@pytest.mark.parametrize("loader", [SHIM, GRUB, IPXE], ids=lambda path: path.name)
def test_the_hash_is_the_one_that_pesign_computes(need: Callable[..., None], loader: Path) -> None:
    need("pesign", loader)
    assert read(loader).authenticode_sha256 in said("pesign", "--hash", f"--in={loader}")


@pytest.mark.parametrize("loader", [SHIM, GRUB], ids=lambda path: path.name)
def test_the_signers_are_those_that_sbverify_lists(need: Callable[..., None], loader: Path) -> None:
    need("sbverify", loader)
    issuers = re.findall(r"signature issuers:\n - .*?CN=(.*)", said("sbverify", "--list", loader))
    signatures = read(loader).signatures
    assert [signature.issuer for signature in signatures] == issuers
    assert [signature.fault for signature in signatures] == [None] * len(issuers)


def test_debians_shim_is_signed_by_the_authority_that_every_machine_knows(need: Callable[..., None]) -> None:
    need(SHIM)
    assert "Microsoft Corporation UEFI CA 2011" in [signature.issuer for signature in read(SHIM).signatures]


def test_sbat_is_what_objcopy_takes_out(need: Callable[..., None], tmp_path: Path) -> None:
    need("objcopy", GRUB)
    said("objcopy", "--dump-section", f".sbat={tmp_path}/sbat", GRUB, tmp_path / "copy")
    lines = (tmp_path / "sbat").read_text().rstrip("\0").splitlines()
    assert {line.split(",")[0]: int(line.split(",")[1]) for line in lines} == read(GRUB).generations


def test_a_loader_signed_by_sbsign(
    need: Callable[..., None], tmp_path: Path, signer: Signer, pem: tuple[Path, Path]
) -> None:
    need("sbsign", IPXE)
    signed = tmp_path / "ipxe.efi"
    said("sbsign", "--key", pem[0], "--cert", pem[1], "--output", signed, IPXE)
    (signature,) = read(signed).signatures
    assert (signature.signer, signature.issuer, signature.fault) == ("Operator Signer", "Operator CA", None)
    changed = bytearray(signed.read_bytes())
    changed[0x2000] ^= 1
    signed.write_bytes(changed)
    assert read(signed).signatures[0].fault is SignatureFault.CHANGED


@pytest.mark.parametrize("image", [make_pe(), make_pe(sbat("grub,5,FSF,grub,2.06,u"))], ids=["plain", "with SBAT"])
def test_sbverify_takes_the_signatures_that_the_unit_tests_make(
    need: Callable[..., None], tmp_path: Path, signer: Signer, image: bytes
) -> None:
    need("sbverify")
    loader, root = tmp_path / "made.efi", tmp_path / "root.pem"
    loader.write_bytes(sign(image, signer))
    root.write_bytes(signer.chain[-1].public_bytes(Encoding.PEM))
    run = subprocess.run(("sbverify", "--cert", root, loader), capture_output=True, text=True, check=True, timeout=60)
    assert "Signature verification OK" in run.stdout + run.stderr


def test_pesign_hashes_the_shim_that_the_unit_tests_make_alike(need: Callable[..., None], tmp_path: Path) -> None:
    need("pesign")
    loader = tmp_path / "shim.efi"
    loader.write_bytes(shim(make_signers()))
    assert read(loader).authenticode_sha256 in said("pesign", "--hash", f"--in={loader}")


def test_debians_chain_is_sound(need: Callable[..., None], tmp_path: Path) -> None:
    need(SHIM, GRUB)
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "shimx64.efi").write_bytes(SHIM.read_bytes())
    (boot / "grubx64.efi").write_bytes(GRUB.read_bytes())
    boot_files = BootFiles(boot)
    chain = make_chain(boot_files)
    assert {file.name: file.loads for file in chain.files} == {"grubx64.efi": (), "shimx64.efi": ("grubx64.efi",)}
    (tmp_path / "chain.toml").write_text(format_manifest(chain))
    assert check_manifest(tmp_path / "chain.toml", boot_files) == ChainReport()
