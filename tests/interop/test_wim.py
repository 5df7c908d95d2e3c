# SPDX-License-Identifier: Apache-2.0
"""Our WIM reader against wimlib: the same summary of the same files, and the same verdict on damaged ones."""

import random
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dpd.content.wim import check
from dpd.content.wim_integrity import IntegrityVerifier
from dpd.errors import ContentCorrupt

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("wimlib-imagex") is None, reason="wimlib-imagex is not installed (wimtools)"),
]
PIECE_BYTES = 1 << 16
KINDS = {
    "LZX": ["--compress=LZX"],
    "XPRESS": ["--compress=XPRESS"],
    "LZMS solid": ["--solid"],
    "stored": ["--compress=none"],
    "pipable": ["--pipable"],
}


def wimlib(*arguments: str | Path, fails: bool = False) -> str:
    ran = subprocess.run(["wimlib-imagex", *map(str, arguments)], capture_output=True, check=False)
    assert (ran.returncode != 0) == fails, ran.stderr.decode()
    return ran.stdout.decode("utf-16" if "--xml" in arguments else "utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.5 MB that does not compress, some that does, a folder and an empty file."""
    root = tmp_path_factory.mktemp("tree")
    (root / "random").write_bytes(random.Random(7).randbytes(1_500_000))
    (root / "text").write_text("The same line again.\n" * 20_000)
    (root / "folder").mkdir()
    (root / "folder" / "empty").touch()
    return root


@pytest.fixture(scope="module", params=KINDS)
def wim(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, with an integrity table."""
    path = tmp_path_factory.mktemp("wim") / "image.wim"
    wimlib("capture", tree, path, "first", "--check", *KINDS[request.param])
    wimlib("append", tree / "folder", path, "zweites für alle", "--check")
    return path


def verify_chunks(path: Path) -> None:
    summary = check(path)
    assert summary.integrity is not None
    verifier = IntegrityVerifier(summary.integrity)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            verifier.update(piece)
    verifier.finish()


def info_fields(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Za-z ]+?) *[:=] +(.*)$", wimlib("info", path, "--header"), re.MULTILINE))


def test_our_summary_is_what_wimlib_says(wim: Path) -> None:
    summary, header = check(wim), info_fields(wim)
    flags = int(header["Flags"], 16)
    bit = {"xpress": 0x20000, "lzx": 0x40000, "lzms": 0x80000, "none": 0}[summary.compression]
    assert flags & 0xE0000 == bit
    assert summary.pipable == header["Magic Characters"].startswith("WLPWM")
    assert summary.solid == (header["Version"] == "0xe00")
    assert f"{summary.part_number} {summary.total_parts}" == f"{header['Part Number']} {header['Total Parts']}"
    assert summary.boot_index == int(header["Boot Index"])
    assert len(summary.images) == int(header["Image Count"]) == 2


def test_our_images_are_those_of_wimlibs_xml(wim: Path) -> None:
    theirs = ElementTree.fromstring(wimlib("info", wim, "--xml").lstrip("\ufeff"))
    ours = {image.index: (image.name, image.size_bytes) for image in check(wim).images}
    assert ours == {
        int(element.attrib["INDEX"]): (element.findtext("NAME"), int(element.findtext("TOTALBYTES", "")))
        for element in theirs.iterfind("IMAGE")
    }


def test_the_integrity_table_fits(wim: Path) -> None:
    wimlib("verify", wim)
    verify_chunks(wim)


def test_small_chunks_fit_too(tree: Path, tmp_path: Path) -> None:
    """wimlib's own chunks have 10 MiB; a table of several is worth a file that spans them."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "random").write_bytes(random.Random(8).randbytes(22 << 20))
    wimlib("capture", tmp_path / "big", tmp_path / "big.wim", "big", "--check", "--compress=none")
    summary = check(tmp_path / "big.wim")
    assert summary.integrity is not None
    assert len(summary.integrity.digests) == 3
    verify_chunks(tmp_path / "big.wim")
    damage(tmp_path / "big.wim", 11 << 20)
    with pytest.raises(ContentCorrupt, match=r"chunk 1 \(bytes 10485968 to 20971727\)"):
        verify_chunks(tmp_path / "big.wim")


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x20]))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_both_refuse_a_flipped_byte_that_the_table_covers(wim: Path, tmp_path: Path, fraction: float) -> None:
    table = check(wim).integrity
    assert table is not None
    copy = Path(shutil.copy(wim, tmp_path / "copy.wim"))
    at = table.start + round(fraction * (table.end - table.start - 1))
    damage(copy, at)
    with pytest.raises(ContentCorrupt, match=r"chunk 0 |the resource of blob|blob table damaged"):
        verify_chunks(copy)
    wimlib("info", copy, "--check", fails=True)


@pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.01, 0.5, 0.9, 0.99, 0.9999])
def test_both_refuse_a_truncated_file(wim: Path, tmp_path: Path, fraction: float) -> None:
    copy = Path(shutil.copy(wim, tmp_path / "copy.wim"))
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        file.truncate(int(size * fraction))
    with pytest.raises(ContentCorrupt, match=r"copy\.wim: truncated: "):
        check(copy)
    wimlib("info", copy, "--check", fails=True)


def test_both_refuse_damaged_xml(wim: Path, tmp_path: Path) -> None:
    content = wim.read_bytes()
    at = content.rindex("<IMAGE".encode("utf-16-le"))  # append leaves the old XML data in the file
    copy = tmp_path / "copy.wim"
    copy.write_bytes(content[:at] + b"&" + content[at + 1 :])
    with pytest.raises(ContentCorrupt, match="XML data damaged"):
        check(copy)
    wimlib("info", copy, fails=True)


def test_a_boot_index_is_read(tree: Path, tmp_path: Path) -> None:
    wimlib("capture", tree, tmp_path / "boot.wim", "boot", "--boot")
    assert check(tmp_path / "boot.wim").boot_index == 1


def test_properties_of_windows_are_read(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.wim"
    wimlib("capture", tree, path, "Windows 11 Pro", "--flags=Professional", "--image-property=WINDOWS/ARCH=9")
    (image,) = check(path).images
    assert (image.name, image.architecture, image.flags) == ("Windows 11 Pro", "x64", "Professional")


def test_each_part_of_a_split_wim_is_sound_by_itself(tree: Path, tmp_path: Path) -> None:
    wimlib("capture", tree, tmp_path / "whole.wim", "one", "--check")
    wimlib("split", tmp_path / "whole.wim", tmp_path / "part.swm", "1", "--check")
    parts = sorted(tmp_path.glob("part*.swm"))
    assert len(parts) > 1
    for number, part in enumerate(parts, 1):
        summary = check(part)
        assert (summary.part_number, summary.total_parts, len(summary.images)) == (number, len(parts), 1)
        verify_chunks(part)
