# SPDX-License-Identifier: Apache-2.0
"""Our WIM reader against wimlib: the same summary of the same files, and the same verdict on damaged ones."""

import os
import random
import re
import shutil
import subprocess
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpd.content.wim.blobs import entries
from dpd.content.wim.file import WimFile
from dpd.content.wim.header import HEADER_BYTES
from dpd.content.wim.integrity import IntegrityVerifier
from dpd.content.wim.reader import check
from dpd.content.wim.split import find_parts
from dpd.content.wim.tags import image_tags
from dpd.content.wim.verification import WimCheck, verify_wim
from dpd.content.wim.xml import read_images
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


def parsed_blobs(path: Path) -> set[tuple[object, ...]]:
    """Hash, original size, and where it lies, of each blob as `wimlib-imagex info --blobs` shows it."""
    found: set[tuple[object, ...]] = set()
    for block in wimlib("info", path, "--blobs").split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z -]+?) *= (.*)$", block, re.MULTILINE))
        if fields:
            number = {
                key: int(value.split()[0]) for key, value in fields.items() if value[:1].isdigit() and key != "Hash"
            }
            place = number.get("Solid offset", number.get("Offset in WIM"))
            resource = fields.get("Solid resource") or number.get("Compressed size", number["Uncompressed size"])
            found.add(
                (fields["Hash"].removeprefix("0x"), number["Uncompressed size"], place, resource, number["Part Number"])
            )
    return found


def our_blobs(path: Path) -> set[tuple[object, ...]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        file = WimFile(descriptor)
        listed = list(entries(file, file.read_header()))
        solid = check(path).blobs.solid_resources
    finally:
        os.close(descriptor)
    found: set[tuple[object, ...]] = set()
    for each in listed:
        if each.is_solid_resource:
            continue
        resource: object = each.size_bytes
        if each.is_in_solid:
            (one,) = solid
            resource = f"{one.original_size} => {one.size_bytes} bytes @ offset {one.offset}"
        found.add((each.sha1.hex(), each.blob_bytes, each.offset, resource, each.part))
    return found


def test_our_blob_table_is_wimlibs(wim: Path) -> None:
    assert our_blobs(wim) == parsed_blobs(wim)
    assert len(our_blobs(wim)) >= 4  # two files, two images


def test_the_geometry_is_what_wimlib_says(wim: Path) -> None:
    summary, header = check(wim), info_fields(wim)
    if summary.compression != "none":
        assert summary.chunk_bytes == int(header["Chunk Size"])
    if summary.solid:
        (solid,) = summary.blobs.solid_resources
        assert (solid.compression, solid.original_size) == ("lzms", 1_920_000)
        assert solid.chunk_count == -(-solid.original_size // solid.chunk_bytes)
    assert summary.guid.hex() == header["GUID"].removeprefix("0x")


def test_our_details_are_those_of_wimlibs_info(tree: Path, tmp_path: Path) -> None:
    properties = {
        "ARCH": "9",
        "EDITIONID": "Professional",
        "LANGUAGES/LANGUAGE[1]": "de-DE",
        "LANGUAGES/LANGUAGE[2]": "en-US",
        "LANGUAGES/DEFAULT": "de-DE",
        "VERSION/MAJOR": "10",
        "VERSION/MINOR": "0",
        "VERSION/BUILD": "26100",
        "VERSION/SPBUILD": "1742",
    }
    path = tmp_path / "image.wim"
    options = [f"--image-property=WINDOWS/{name}={value}" for name, value in properties.items()]
    wimlib("capture", tree, path, "Windows 11 Pro", "für alle", *options)
    (image,) = check(path).images
    theirs = dict(re.findall(r"^([A-Z][A-Za-z -]+?): +(.*?) *$", wimlib("info", path), re.MULTILINE))
    assert (image.name, image.description) == (theirs["Name"], theirs["Description"])
    assert f"{image.directory_count} {image.file_count}" == f"{theirs['Directory Count']} {theirs['File Count']}"
    assert f"{image.size_bytes} {image.hard_link_bytes}" == f"{theirs['Total Bytes']} {theirs['Hard Link Bytes']}"
    assert (image.architecture, theirs["Architecture"]) == ("x64", "x86_64")
    assert (image.edition, image.default_language) == (theirs["Edition ID"], theirs["Default Language"])
    assert list(image.languages) == theirs["Languages"].split()
    created = datetime.strptime(theirs["Creation Time"], "%a %b %d %H:%M:%S %Y UTC").replace(tzinfo=UTC)
    assert int(image.created_at) == int(created.timestamp())
    assert image_tags([image]) == (
        "architecture=x64",
        "edition=Professional",
        "language=de-DE",
        "language=en-US",
        "version=10.0.26100.1742",
    )


def test_extracted_xml_is_what_we_read(wim: Path, tmp_path: Path) -> None:
    wimlib("info", wim, f"--extract-xml={tmp_path / 'xml'}")
    assert read_images((tmp_path / "xml").read_bytes()) == check(wim).images


@pytest.mark.parametrize("compression", ["none", "XPRESS"])
def test_a_split_set_is_found_and_verified_whole(tree: Path, tmp_path: Path, compression: str) -> None:
    wimlib("capture", tree, tmp_path / "whole.wim", "one", "--check", f"--compress={compression}")
    wimlib("split", tmp_path / "whole.wim", tmp_path / "part.swm", "1")
    found = find_parts(tmp_path / "part.swm")
    assert found.images == check(tmp_path / "whole.wim").images
    assert set(found.parts) == set(tmp_path.glob("part*.swm"))
    blobs = [our_blobs(path) for path in found.parts]
    assert set().union(*blobs) == set().union(*map(parsed_blobs, found.parts))
    assert verified(*found.parts).unchecked == 0


def verified(*paths: Path) -> WimCheck:
    with ExitStack() as stack:
        parts = [os.open(path, os.O_RDONLY) for path in paths]
        for part in parts:
            stack.callback(os.close, part)
        return verify_wim(parts, [path.name for path in paths], lambda done, total: None)


def test_both_say_the_same_of_the_own_sums(wim: Path, tmp_path: Path) -> None:
    """A sound file, and one with a flipped byte in the middle of its largest resource."""
    summary = check(wim)
    found = verified(wim)
    assert (found.unchecked, found.by_wimlib) == (0, summary.compression != "none")
    resource = max(listed_resources(wim), key=lambda each: each[1])
    copy = Path(shutil.copy(wim, tmp_path / "copy.wim"))
    damage(copy, resource[0] + resource[1] // 2)
    with pytest.raises(ContentCorrupt, match=r"copy\.wim: "):
        verified(copy)
    wimlib("verify", copy, "--nocheck", fails=True)


def listed_resources(path: Path) -> list[tuple[int, int]]:
    """Offset and size of what lies in the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        file = WimFile(descriptor)
        return [(each.offset, each.size_bytes) for each in entries(file, file.read_header()) if not each.is_in_solid]
    finally:
        os.close(descriptor)


@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_of_a_real_file_gives_a_summary_or_a_reason(
    wim: Path, tmp_path: Path, changes: list[tuple[float, int]]
) -> None:
    """Where the tables are: the header, and the last 8 KiB of a solid file's 1.5 MB."""
    content = bytearray(wim.read_bytes())
    for place, mask in changes:
        at = int(place * 2 * HEADER_BYTES) if place < 0.5 else len(content) - 1 - int((place - 0.5) * 2 * 8192)
        content[at] ^= mask
    copy = tmp_path / "damaged.wim"
    copy.write_bytes(content)
    with suppress(ContentCorrupt):
        assert check(copy).size_bytes == len(content)
