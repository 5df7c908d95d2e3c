# SPDX-License-Identifier: Apache-2.0
"""The XML data of a WIM: which images it holds.

The XML comes from whoever made the file, so the parser takes no document type (hence no entities, no external files)
and no more than MAX_XML_BYTES. Errors tell the reason alone; `wim.check` puts the file's name before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Self
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dpd.errors import ContentCorrupt

MAX_XML_BYTES = 16 << 20  # about 2 KB for each image in practice
_MAX_DEPTH = 64  # <WIM><IMAGE><WINDOWS><LANGUAGES><LANGUAGE> is 5
_BYTE_ORDER_MARK = b"\xff\xfe"
_FILETIME_EPOCH_S = 11_644_473_600  # from 1601, where Windows begins to count, to 1970
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")
_HALF = re.compile(r"0x[0-9A-Fa-f]{1,8}")
_ARCHITECTURES = {"0": "x86", "5": "arm", "6": "ia64", "9": "x64", "12": "arm64"}  # PROCESSOR_ARCHITECTURE_* of winnt.h


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One image of a WIM. `size_bytes` counts each file as often as it is there, `hard_link_bytes` of that are further names
    of files. `created_at` is seconds since 1970, 0 where it is not told.

    For an image without Windows `architecture`, `version` (such as 10.0.26100.1), `edition` (such as Professional) and the
    languages are empty. `flags` is the edition as whoever captured the image named it.
    """

    index: int
    name: str
    architecture: str
    size_bytes: int
    flags: str = ""
    version: str = ""
    edition: str = ""
    description: str = ""
    languages: tuple[str, ...] = ()
    default_language: str = ""
    file_count: int = 0
    directory_count: int = 0
    hard_link_bytes: int = 0
    created_at: float = 0.0

    def to_row(self) -> list[Any]:
        """For JSON; `from_row` makes the same of it."""
        return list(astuple(self))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Also of a row that an older dpd wrote, which has fewer fields."""
        names = [each.name for each in fields(cls)]
        told = dict(zip(names, row, strict=False))
        return cls(**told | {"languages": tuple(told.get("languages", ()))})


def read_images(xml: bytes) -> tuple[ImageSummary, ...]:
    """The images in the order of their index. Raises ContentCorrupt with the reason."""
    root = _parse(_decode(xml))
    if root.tag != "WIM":
        raise ContentCorrupt(f"XML data damaged: the root element is <{root.tag[:40]}>, expected <WIM>")
    images = sorted((_read_image(element) for element in root.iterfind("IMAGE")), key=lambda image: image.index)
    if [image.index for image in images] != list(range(1, len(images) + 1)):
        found = ", ".join(str(image.index) for image in images[:20])
        raise ContentCorrupt(f"XML data damaged: image indexes {found}, expected 1 to {len(images)}, each once")
    return tuple(images)


def _decode(xml: bytes) -> str:
    if not xml.startswith(_BYTE_ORDER_MARK):
        raise ContentCorrupt(f"XML data damaged: starts with {xml[:4].hex(' ')}, expected the mark ff fe of UTF-16LE")
    try:
        return xml[len(_BYTE_ORDER_MARK) :].decode("utf-16-le")
    except UnicodeDecodeError as error:
        at = error.start + len(_BYTE_ORDER_MARK)
        raise ContentCorrupt(f"XML data damaged: no UTF-16LE at its byte {at} ({error.reason})") from None


def _parse(text: str) -> Element:
    parser, builder, depth = expat.ParserCreate(), TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise ContentCorrupt(f"XML data damaged: elements nested deeper than {_MAX_DEPTH}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ContentCorrupt(f"XML data damaged: {error}") from None
    return builder.close()


def _refuse_document_type(*_: Any) -> None:
    raise ContentCorrupt("XML data refused: it declares a document type, which no WIM has (entities could read files)")


def _read_image(element: Element) -> ImageSummary:
    index = _number(element.get("INDEX", ""), "IMAGE INDEX")

    def text(path: str) -> str:
        return element.findtext(path, "").strip()

    def number(tag: str) -> int:
        return _number(element.findtext(tag, "0"), f"{tag} of image {index}")

    code = text("WINDOWS/ARCH")
    return ImageSummary(
        index=index,
        name=text("NAME"),
        architecture=_ARCHITECTURES.get(code, f"unknown ({code[:8]})") if code else "",
        size_bytes=number("TOTALBYTES"),
        flags=text("FLAGS"),
        version=_version(element),
        edition=text("WINDOWS/EDITIONID") or text("FLAGS"),
        description=text("DESCRIPTION"),
        languages=_languages(element),
        default_language="".join(_as_language(text("WINDOWS/LANGUAGES/DEFAULT"))),
        file_count=number("FILECOUNT"),
        directory_count=number("DIRCOUNT"),
        hard_link_bytes=number("HARDLINKBYTES"),
        created_at=_moment(text("CREATIONTIME/HIGHPART"), text("CREATIONTIME/LOWPART")),
    )


def _languages(element: Element) -> tuple[str, ...]:
    """Each once, in the order of the file."""
    told = (each.text or "" for each in element.iterfind("WINDOWS/LANGUAGES/LANGUAGE"))
    return tuple(dict.fromkeys(name for text in told for name in _as_language(text.strip())))


def _as_language(text: str) -> tuple[str, ...]:
    """A name such as de-DE, or none; like a version it is only shown, so nothing to refuse a WIM for."""
    return (text,) if _LANGUAGE.fullmatch(text) else ()


def _moment(high: str, low: str) -> float:
    """Two halves of a FILETIME, which counts 100 ns since 1601, such as 0x01DD79F0; 0 for what is none."""
    if not (_HALF.fullmatch(high) and _HALF.fullmatch(low)):
        return 0.0
    return max(0.0, (int(high, 16) << 32 | int(low, 16)) / 10_000_000 - _FILETIME_EPOCH_S)


def _version(element: Element) -> str:
    """It is only shown; so one that is no version is none, and nothing to refuse a WIM for."""
    tags = ("MAJOR", "MINOR", "BUILD", "SPBUILD")
    numbers = [element.findtext(f"WINDOWS/VERSION/{tag}", "").strip() for tag in tags]
    while numbers and not numbers[-1]:
        numbers.pop()
    return ".".join(numbers) if all(each.isascii() and each.isdigit() and len(each) < 10 for each in numbers) else ""


def _number(text: str, what: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) < 1 << 63):
        raise ContentCorrupt(f"XML data damaged: {what} is {text[:40]!r}, expected a number")
    return int(digits)
