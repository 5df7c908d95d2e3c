# SPDX-License-Identifier: Apache-2.0
import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.content.wim_builder import encode_xml, image, image_xml

from dpd.content.wim.xml import ImageSummary, read_images
from dpd.errors import ContentCorrupt

INSTALL_WIM = image_xml(
    "<TOTALBYTES>5000000000</TOTALBYTES>",
    '<IMAGE INDEX="2"><TOTALBYTES>17000000001</TOTALBYTES><WINDOWS><ARCH>12</ARCH></WINDOWS><NAME>Windows 11 für ARM</NAME></IMAGE>',
    '<IMAGE INDEX="1"><TOTALBYTES>16000000000</TOTALBYTES><WINDOWS><ARCH>9</ARCH><PRODUCTNAME>Microsoft</PRODUCTNAME>'
    "</WINDOWS><NAME>Windows 11 Pro</NAME><FLAGS>Professional</FLAGS></IMAGE>",
)


def test_images_come_in_the_order_of_their_index() -> None:
    assert read_images(encode_xml(INSTALL_WIM)) == (
        ImageSummary(1, "Windows 11 Pro", "x64", 16_000_000_000, "Professional", edition="Professional"),
        ImageSummary(2, "Windows 11 für ARM", "arm64", 17_000_000_001),
    )


def test_an_image_without_windows_has_no_architecture() -> None:
    assert read_images(encode_xml(image_xml(image(1)))) == (ImageSummary(1, "one", "", 1160),)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("<MAJOR>10</MAJOR><MINOR>0</MINOR><BUILD>26100</BUILD><SPBUILD>1742</SPBUILD>", "10.0.26100.1742"),
        ("<MAJOR>6</MAJOR><MINOR>3</MINOR>", "6.3"),
        ("<MAJOR>10</MAJOR><BUILD>26100</BUILD>", ""),
        ("<MAJOR>ten</MAJOR>", ""),
        ("", ""),
    ],
)
def test_windows_tells_its_version(version: str, shown: str) -> None:
    xml = image_xml(image(1, extra=f"<WINDOWS><VERSION>{version}</VERSION></WINDOWS>"))
    assert read_images(encode_xml(xml))[0].version == shown


PROFESSIONAL = """
<DIRCOUNT>18204</DIRCOUNT><FILECOUNT>88023</FILECOUNT><HARDLINKBYTES>6700000000</HARDLINKBYTES>
<CREATIONTIME><HIGHPART>0x01BF53EB</HIGHPART><LOWPART>0x256D4000</LOWPART></CREATIONTIME>
<DESCRIPTION>For everybody</DESCRIPTION>
<WINDOWS><ARCH>9</ARCH><EDITIONID>Professional</EDITIONID><LANGUAGES><LANGUAGE>de-DE</LANGUAGE><LANGUAGE>en-US</LANGUAGE>
<FALLBACK LANGUAGE="de-DE">en-US</FALLBACK><LANGUAGE>de-DE</LANGUAGE><LANGUAGE>no language</LANGUAGE><DEFAULT>de-DE</DEFAULT>
</LANGUAGES></WINDOWS>"""


def test_all_that_windows_tells_is_read() -> None:
    (found,) = read_images(encode_xml(image_xml(image(1, extra=PROFESSIONAL + "<FLAGS>Core</FLAGS>"))))
    assert (found.edition, found.flags, found.description) == ("Professional", "Core", "For everybody")
    assert (found.languages, found.default_language) == (("de-DE", "en-US"), "de-DE")
    assert (found.file_count, found.directory_count, found.hard_link_bytes) == (88_023, 18_204, 6_700_000_000)
    assert datetime.fromtimestamp(found.created_at, UTC) == datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("high", "low"), [("0x0", "0x0"), ("30", "0x0"), ("0x123456789", "0x0"), ("", ""), ("0x00000001", "0xFFFFFFFF")]
)
def test_a_time_that_is_none_or_before_1970_is_not_told(high: str, low: str) -> None:
    time = f"<CREATIONTIME><HIGHPART>{high}</HIGHPART><LOWPART>{low}</LOWPART></CREATIONTIME>"
    assert read_images(encode_xml(image_xml(image(1, extra=time))))[0].created_at == 0.0


def test_a_row_becomes_the_same_image_again() -> None:
    (found,) = read_images(encode_xml(image_xml(image(1, extra=PROFESSIONAL))))
    assert ImageSummary.from_row(json.loads(json.dumps(found.to_row()))) == found


def test_a_row_of_an_older_dpd_lacks_what_it_did_not_know() -> None:
    assert ImageSummary.from_row([1, "one", "x64", 5, "Core", "10.0"]) == ImageSummary(
        1, "one", "x64", 5, "Core", "10.0"
    )


def test_an_unknown_architecture_is_shown_as_its_code() -> None:
    xml = image_xml(image(1, extra="<WINDOWS><ARCH>77</ARCH></WINDOWS>"))
    assert read_images(encode_xml(xml))[0].architecture == "unknown (77)"


def test_an_xml_declaration_in_utf_16_is_fine() -> None:
    assert read_images(encode_xml('<?xml version="1.0" encoding="UTF-16"?>' + image_xml(image(1))))[0].name == "one"


DAMAGE = {
    "no mark": (b"<\0W\0I\0M\0/\0>\0", "starts with 3c 00 57 00, expected the mark ff fe of UTF-16LE"),
    "odd length": (encode_xml("<WIM/>") + b"x", "no UTF-16LE at its byte 14"),
    "lone surrogate": (b"\xff\xfe\x00\xd8<\0", "no UTF-16LE at its byte 2"),
    "zeroed": (b"\xff\xfe" + bytes(40), "not well-formed"),
    "unclosed": (encode_xml("<WIM><IMAGE>"), "no element found"),
    "other root": (encode_xml("<ESD/>"), "the root element is <ESD>, expected <WIM>"),
    "index twice": (encode_xml(image_xml(image(1), image(1))), "image indexes 1, 1, expected 1 to 2"),
    "index gap": (encode_xml(image_xml(image(1), image(3))), "image indexes 1, 3, expected 1 to 2"),
    "no index": (encode_xml("<WIM><IMAGE/></WIM>"), "IMAGE INDEX is '', expected a number"),
    "size": (
        encode_xml('<WIM><IMAGE INDEX="1"><TOTALBYTES>-5</TOTALBYTES></IMAGE></WIM>'),
        "TOTALBYTES of image 1 is '-5'",
    ),
    "huge size": (
        encode_xml(f'<WIM><IMAGE INDEX="1"><TOTALBYTES>{2**63}</TOTALBYTES></IMAGE></WIM>'),
        "TOTALBYTES of image 1 is",
    ),
    "deep": (encode_xml("<WIM>" + "<A>" * 100_000), "nested deeper than 64"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(damage: str) -> None:
    xml, reason = DAMAGE[damage]
    with pytest.raises(ContentCorrupt) as refused:
        read_images(xml)
    assert reason in str(refused.value)


def test_a_document_type_is_refused_before_its_entities_count(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for doctype in (
        '<!DOCTYPE WIM [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        f'<!DOCTYPE WIM [<!ENTITY a SYSTEM "file://{secret}">]>',
        f'<!DOCTYPE WIM SYSTEM "file://{secret}">',
    ):
        with pytest.raises(ContentCorrupt, match="declares a document type"):
            read_images(encode_xml(doctype + image_xml(image(1))))


@given(st.text(max_size=60).map(lambda text: text.encode("utf-16-le", "surrogatepass")) | st.binary(max_size=120))
def test_any_bytes_are_images_or_refused_in_words(xml: bytes) -> None:
    with contextlib.suppress(ContentCorrupt):
        assert read_images(b"\xff\xfe" + xml) == ()
