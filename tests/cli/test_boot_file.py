# SPDX-License-Identifier: Apache-2.0
"""`dpd boot-file …`: what lies in the boot directory, and whether it would boot under Secure Boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.boot.chain_files import grub, make_signers, write_chain
from tests.boot.signing import authority, make_pe, sign
from tests.cli.conftest import Dpd


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    write_chain(tmp_path / "boot", make_signers())
    (tmp_path / "boot" / "boot.ipxe").write_text("#!ipxe\n")
    return tmp_path / "boot"


@pytest.fixture
def config(boot: Path, tmp_path: Path) -> Path:
    """Settings that name the directory and the manifest."""
    path = tmp_path / "dpd.toml"
    path.write_text(f'[boot]\ndirectory = "{boot}"\nchain_manifest = "{tmp_path}/chain.toml"\n')
    return path


def test_the_list_tells_machines_signers_and_generations(dpd: Dpd, boot: Path, config: Path) -> None:
    ended = dpd("boot-file", "list", "--config", config)
    lines = {line.split()[0]: line for line in ended.out.splitlines()}
    assert list(lines) == ["FILE", "boot.ipxe", "grubx64.efi", "shimx64.efi", "vmlinuz"]
    assert lines["grubx64.efi"].split()[3:] == ["x64", "Vendor", "Signer", "Vendor", "CA", "grub", "5"]
    assert lines["boot.ipxe"].split()[3:] == ["-"] * 4


def test_the_list_as_json_has_what_lists_of_the_firmware_have(dpd: Dpd, boot: Path) -> None:
    listed = dpd("boot-file", "list", "--directory", boot, "--json").json
    files = {file["name"]: file for file in listed["files"]}
    assert listed["directory"] == str(boot)
    assert files["boot.ipxe"]["image"] is None
    shim = files["shimx64.efi"]["image"]
    assert (shim["architecture"], shim["sbat"], shim["sbat_level"]) == (
        "x64",
        {"sbat": 1, "shim": 4},
        {"shim": 4, "grub": 4},
    )
    assert shim["signatures"] == [
        {
            "signer": "UEFI Signer",
            "issuer": "UEFI CA",
            "authorities": ["UEFI CA"],
            "digest": "sha256",
            "fault": None,
        }
    ]
    assert len(shim["authenticode_sha256"]) == 64


def test_every_signature_and_its_fault_is_in_the_list(dpd: Dpd, boot: Path) -> None:
    (boot / "two.efi").write_bytes(sign(make_pe(), authority("CA 1").issue("One"), authority("CA 2").issue("Two")))
    changed = bytearray(sign(make_pe(), authority("CA 3").issue("Three")))
    changed[0x400] ^= 1
    (boot / "changed.efi").write_bytes(changed)
    (boot / "plain.efi").write_bytes(make_pe())
    out = dpd("boot-file", "list", "--directory", boot).out
    assert [name in out for name in ("One", "Two", "Three (changed)", "nobody")] == [True] * 4


def test_a_manifest_is_made_checked_and_found_broken(dpd: Dpd, boot: Path, config: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "chain.toml"
    made = dpd("boot-file", "manifest", "--config", config, "--loads", "grubx64.efi=vmlinuz", "--output", manifest)
    assert (made.code, made.err) == (0, "")
    assert made.out == f'{manifest}: 3 files; boot.chain_manifest = "{manifest}" makes dpd check them\n'
    sound = dpd("boot-file", "check", "--config", config)
    assert (sound.code, sound.out) == (0, f"{manifest}: the chain is sound.\n")
    (boot / "grubx64.efi").write_bytes(grub(make_signers(), generation=3))
    broken = dpd("boot-file", "check", "--config", config)
    assert broken.code == 1
    assert [line.split()[:2] for line in broken.out.splitlines()[1:4]] == [
        ["grubx64.efi", "wrong_hash"],
        ["grubx64.efi", "sbat_too_low"],
        ["Not", "handed"],
    ]
    assert broken.out.endswith("Not handed out: grubx64.efi, shimx64.efi\n")
    told = dpd("boot-file", "check", "--directory", boot, "--manifest", manifest, "--json")
    assert (told.code, told.json["ok"], sorted(told.json["refused"])) == (1, False, ["grubx64.efi", "shimx64.efi"])
    assert told.json["findings"][1]["fault"] == "sbat_too_low"


def test_a_manifest_of_a_chain_that_cannot_work_is_made_with_a_warning(dpd: Dpd, boot: Path) -> None:
    (boot / "grubx64.efi").write_bytes(grub(make_signers(), generation=3))
    made = dpd("boot-file", "manifest", "--directory", boot)
    assert made.code == 0
    assert '[[file]]\nname = "grubx64.efi"\n' in made.out
    assert made.err == "dpd: grubx64.efi: sbat_too_low: SBAT generation grub 3, at least 4 is asked for\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list", "--directory", "{tmp}/none"], 1, "{tmp}/none: no such directory; --directory names another"),
        (["manifest", "--directory", "{tmp}"], 1, "{tmp}: no .efi file; name the files of the chain"),
        (["manifest", "--directory", "{tmp}", "a.efi"], 1, "a.efi: not a boot file in {tmp}"),
        (["manifest", "--directory", "{tmp}", "--loads", "a"], 1, "--loads a: expected LOADER=LOADED, such as grubx64.efi=vmlinuz"),
        (["check", "--directory", "{tmp}", "--manifest", "{tmp}/no"], 2, "{tmp}/no: chain manifest: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_told_in_one_line(
    dpd: Dpd, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    ended = dpd("boot-file", *(word.format(tmp=tmp_path) for word in arguments))
    assert (ended.code, ended.err) == (code, f"dpd: {message.format(tmp=tmp_path)}\n")


def test_without_a_manifest_in_the_settings_the_next_step_is_told(dpd: Dpd, tmp_path: Path) -> None:
    path = tmp_path / "dpd.toml"
    path.touch()
    ended = dpd("boot-file", "check", "--config", path)
    assert (ended.code, ended.err) == (
        2,
        f'dpd: {path}: boot.chain_manifest = "": expected a file; `dpd boot-file manifest` makes one\n',
    )


def test_a_manifest_that_cannot_be_written_is_told(dpd: Dpd, boot: Path, tmp_path: Path) -> None:
    ended = dpd("boot-file", "manifest", "--directory", boot, "--output", tmp_path / "none" / "chain.toml")
    assert (ended.code, ended.err) == (1, f"dpd: {tmp_path}/none/chain.toml: No such file or directory\n")
