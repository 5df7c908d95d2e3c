# SPDX-License-Identifier: Apache-2.0
"""What of a URL may be shown: not a name and password in it, and not its query, in which there may be a token or a signature."""

from __future__ import annotations

import re

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*:"
# To the last @: a password may have a slash in it, against the rules; and the slashes before it may lack.
_USER = re.compile(rf"((?:{_SCHEME})?//|{_SCHEME})[^?#]*@")
_IN_TEXT = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}:)(//[^\s\"'<>\\`]+)")


def shown(url: str) -> str:
    """One URL, or the path and query of one, for messages."""
    user = _USER.match(url)
    place, mark, _ = (f"{user[1]}…@{url[user.end() :]}" if user else url).partition("?")
    place, fragment, _ = place.partition("#")
    return f"{place}?…" if mark or fragment else place


def without_secrets(text: str) -> str:
    """The same for each URL in a text."""
    if "://" not in text:
        return text
    return _IN_TEXT.sub(lambda found: found[1] + shown(found[2]), text)


def has_secrets(url: str) -> bool:
    """Whether something in it is not to be shown."""
    return shown(url) != url
