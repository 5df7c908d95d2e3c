# SPDX-License-Identifier: Apache-2.0
"""What the kernel's command line tells a machine that boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpd.target.run.command_line import Boot, NotBooted, options, parse, read

PROOF = "0123456789abcdef0123456789abcdef"


def test_it_names_the_server_and_the_proof(tmp_path: Path) -> None:
    place = tmp_path / "cmdline"
    place.write_text(f"quiet dpd.server=http://10.0.0.1:8080 console=ttyS0 dpd.proof={PROOF.upper()}\n")
    assert read(place) == Boot("http://10.0.0.1:8080", PROOF)


def test_the_last_of_one_name_counts() -> None:
    assert parse(f"dpd.server=a dpd.proof={PROOF} dpd.server=b").server == "b"


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("", "dpd.server=URL"),
        (f"dpd.proof={PROOF}", "dpd.server=URL"),
        ("dpd.server=http://a", "dpd.proof"),
        ("dpd.server=http://a dpd.proof=xyz", "dpd.proof"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(line: str, missing: str) -> None:
    with pytest.raises(NotBooted, match=missing) as told:
        parse(line)
    assert "boot this machine over the network by dpd" in str(told.value)
    assert "xyz" not in str(told.value)


def test_the_proof_is_in_no_text() -> None:
    assert PROOF not in repr(parse(f"dpd.server=http://a dpd.proof={PROOF}"))


def test_a_kernel_that_cannot_be_asked_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotBooted, match="is /proc mounted"):
        read(tmp_path / "none")


def test_other_words_are_options_too() -> None:
    assert options("root=/dev/sda dpd.shell=1 dpd.empty") == {"shell": "1", "empty": ""}


@pytest.mark.parametrize(
    ("word", "mac"),
    [
        ("BOOTIF=01-52-54-00-AB-cd-56", "52:54:00:ab:cd:56"),
        ("BOOTIF=52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("BOOTIF=nonsense", ""),
        ("", ""),
    ],
)
def test_the_interface_that_it_booted_by_is_told_where_the_loader_knows(word: str, mac: str) -> None:
    assert parse(f"dpd.server=http://a dpd.proof={PROOF} {word}").mac == mac
