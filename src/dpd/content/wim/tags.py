# SPDX-License-Identifier: Apache-2.0
"""The tags that images give by themselves, so that a query finds content by what is in it: what an upgrade or a
deployment must match is architecture, language and edition."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dpd.content.wim.xml import ImageSummary

MAX_TAGS = 64  # an image in every language has 38 of them
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def image_tags(images: Iterable[ImageSummary]) -> tuple[str, ...]:
    """Such as architecture=x64, edition=Professional, language=de-DE, version=10.0.26100.1: each once, sorted. What could not
    be typed as a tag is none."""
    found = {f"{key}={value}" for image in images for key, value in _pairs(image) if _VALUE.fullmatch(value)}
    return tuple(sorted(found))[:MAX_TAGS]


def _pairs(image: ImageSummary) -> Iterable[tuple[str, str]]:
    yield "architecture", image.architecture
    yield "edition", image.edition
    yield "version", image.version
    yield from (("language", language) for language in image.languages)
