# SPDX-License-Identifier: Apache-2.0
"""The XML data of a WIM: which images it holds.

The XML comes from whoever made the file, so the parser takes no document type (hence no entities, no external files)
and no more than MAX_XML_BYTES. Errors tell the reason alone; `wim.check` puts the file's name before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dpd.errors import ContentCorrupt

MAX_XML_BYTES = 16 << 20  # about 2 KB for each image in practice
_MAX_DEPTH = 64  # <WIM><IMAGE><WINDOWS><LANGUAGES><LANGUAGE> is 5
_BYTE_ORDER_MARK = b"\xff\xfe"
_ARCHITECTURES = {"0": "x86", "5": "arm", "6": "ia64", "9": "x64", "12": "arm64"}  # PROCESSOR_ARCHITECTURE_* of winnt.h


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One image of a WIM. `architecture` and `version`, such as 10.0.26100.1, are empty for an image without Windows in it;
    `flags` is its edition."""

    index: int
    name: str
    architecture: str
    size_bytes: int
    flags: str = ""
    version: str = ""


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
    code = element.findtext("WINDOWS/ARCH", "").strip()
    return ImageSummary(
        index=index,
        name=element.findtext("NAME", "").strip(),
        architecture=_ARCHITECTURES.get(code, f"unknown ({code[:8]})") if code else "",
        size_bytes=_number(element.findtext("TOTALBYTES", "0"), f"TOTALBYTES of image {index}"),
        flags=element.findtext("FLAGS", "").strip(),
        version=_version(element),
    )


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
