# SPDX-License-Identifier: Apache-2.0
"""The PIN that unknown machines are asked for: compared in constant time, tried a few times and then not for a while."""

from __future__ import annotations

import hmac
from collections import OrderedDict, deque
from enum import StrEnum
from pathlib import Path

from dpd.errors import SettingsError

MIN_CHARACTERS = 4
TRIES, LOCKED_S = 5, 15 * 60.0  # of one machine
TRIES_OF_ALL, WINDOW_OF_ALL_S = 100, 3600.0  # MACs cost nothing to invent: 6 digits last a year against this
CAPACITY = 4096


class PinAnswer(StrEnum):
    """What a try came to."""

    RIGHT = "right"
    WRONG = "wrong"
    LOCKED = "locked"


class PinDesk:
    """Judges tries; `pin` "" takes none as right."""

    def __init__(self, pin: str = "") -> None:
        self.pin = pin
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()  # by MAC, when
        self._wrong_of_all: deque[float] = deque(maxlen=TRIES_OF_ALL)

    def judge(self, mac: str, pin: str, now: float) -> PinAnswer:
        """One try of one machine."""
        if self._is_locked(mac, now):
            return PinAnswer.LOCKED
        if hmac.compare_digest(pin.encode("utf-8", "surrogateescape"), self.pin.encode()) and self.pin:
            self._wrong.pop(mac, None)
            return PinAnswer.RIGHT
        self._wrong.setdefault(mac, deque(maxlen=TRIES)).append(now)
        self._wrong.move_to_end(mac)
        while len(self._wrong) > CAPACITY:
            self._wrong.popitem(last=False)
        self._wrong_of_all.append(now)
        return PinAnswer.WRONG

    def _is_locked(self, mac: str, now: float) -> bool:
        own, of_all = self._wrong.get(mac), self._wrong_of_all
        if own is not None and len(own) == TRIES and abs(now - own[0]) < LOCKED_S:
            return True
        return len(of_all) == TRIES_OF_ALL and abs(now - of_all[0]) < WINDOW_OF_ALL_S


def read_pin(path: str) -> str:
    """The PIN out of its file. Raises SettingsError."""
    if not path:
        return ""
    setting = f'pxe.pin_file = "{path}"'
    try:
        pin = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"{setting}: {error.strerror}; make it with one line, the PIN, readable by the user of dpd"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{setting}: expected one line of UTF-8 text") from None
    if len(pin) < MIN_CHARACTERS or not pin.isprintable():
        raise SettingsError(f"{setting}: expected one line of at least {MIN_CHARACTERS} characters")
    return pin
