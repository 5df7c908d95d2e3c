# SPDX-License-Identifier: Apache-2.0
"""A file with one secret in it: a token or a password, in one line that nobody else can read."""

from __future__ import annotations

import stat
from pathlib import Path

from dpd.errors import SettingsError


def read_token_file(path: Path, key: str, *, hint: str, min_characters: int = 1) -> str:
    """The secret. `key` is the setting that names the file, `hint` what an operator is to do where there is none. Raises
    SettingsError, which shows nothing of it."""
    setting = f'{key} = "{path}"'
    try:
        if path.stat().st_mode & stat.S_IROTH:
            raise SettingsError(f"{setting}: readable by everyone; `chmod o= {path}`")
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"{setting}: {error.strerror}; {hint}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: expected one line of ASCII; {hint}") from None
    if len(token) < min_characters or not token.isprintable() or " " in token:
        least = f" of at least {min_characters} characters" if min_characters > 1 else ""
        raise SettingsError(f"{setting}: expected one line{least} without blanks; {hint}")
    return token
