# SPDX-License-Identifier: Apache-2.0
"""Reading the settings again while dpd runs, whatever it serves: told to systemd, told in the log, all of it or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpd.errors import SettingsError
from dpd.settings import Settings, compare_settings, load_settings
from dpd.telemetry.log import set_level
from dpd.telemetry.systemd import sd_notify

log = logging.getLogger(__name__)


@contextmanager
def reloading() -> Iterator[None]:
    """systemd hears that it begins, and that it is over."""
    sd_notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        sd_notify("READY=1")


def read_settings_again(settings: Settings, path: Path | None) -> Settings | None:
    """What the file says now, with each change in the log and the level of the log set; the same where there is no file. None:
    the file is broken, and what was read before stays."""
    try:
        new = load_settings(path) if path else settings
    except SettingsError as error:
        log.error("settings kept as they were", extra={"error": str(error)})
        return None
    for change in compare_settings(settings, new):
        takes_effect = "now" if change.live else "at restart"
        log.info("setting changed", extra={"key": change.key, "old": change.old, "new": change.new, "takes_effect": takes_effect})  # fmt: skip
    set_level(new.daemon.log_level)
    return new
