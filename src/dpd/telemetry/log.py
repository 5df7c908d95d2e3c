# SPDX-License-Identifier: Apache-2.0
"""Log lines for a terminal, for the journal, or as JSON: a constant message, and fields given by `extra`.

Values come from the wire. Whatever they are, a line is one line and writing it never raises; passwords and tokens in URLs
are left out of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from dpd.urls import without_secrets

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
MAX_VALUE_CHARACTERS = 1000

# What every record has; all else came by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Send every logger's lines to standard error; may be called again. The names are those of [daemon] in the settings."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(_resolve(log_format, target)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Change the level alone, at a reload."""
    logging.getLogger().setLevel(LEVELS[level])


def _resolve(log_format: str, stream: TextIO) -> str:
    if log_format != "auto":
        return log_format
    if _is_journal(stream):
        return "journal"
    return "text" if stream.isatty() else "json"


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that JOURNAL_STREAM names, systemd.exec(5); a redirected one is not."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _formatter(name: str) -> logging.Formatter:
    return {"text": TextFormatter, "journal": JournalFormatter, "json": JsonFormatter}[name]()


class TextFormatter(logging.Formatter):
    """For people: 12:00:01 INFO service.tftp  transfer finished file=ipxe.efi."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        name = record.name.removeprefix("dpd.")
        return _joined([f"{at} {record.levelname:<7} {name}  {_line(record)}", *_trace(record)])


class JournalFormatter(logging.Formatter):
    """For systemd-journald: each line starts with its priority, sd-daemon(3); the journal adds time and unit."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _priority(record.levelno)
        return _joined(f"<{priority}>{line}" for line in (_line(record), *_trace(record)))


class JsonFormatter(logging.Formatter):
    """For collectors: one object per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in _fields(record).items():
            entry.setdefault(name, _plain(value))
        if trace := _trace(record):
            entry["exception"] = "\n".join(trace)
        return json.dumps(entry)


def _joined(lines: Iterable[str]) -> str:
    # Lone surrogates, from file names that are no UTF-8, would make the stream raise.
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode()


def _line(record: logging.LogRecord) -> str:
    pairs = (f"{name}={_shown(value)}" for name, value in _fields(record).items())
    return " ".join([_escaped(_message(record)), *pairs])


def _message(record: logging.LogRecord) -> str:
    try:
        return without_secrets(record.getMessage())
    except Exception:  # a format and arguments that do not fit; the line still tells what it was
        return f"{_text(record.msg)} {_text(record.args)}"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}


def _plain(value: Any) -> Any:
    """A value as JSON knows it, which has no NaN and no infinity; Python refuses to print integers without limit."""
    if value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < 2**63):
        return value
    return _text(value)


def _shown(value: Any) -> str:
    text = _text(value)
    if text and all(c.isprintable() and c not in ' "=' for c in text):
        return text
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)


def _text(value: Any) -> str:
    try:
        text = without_secrets(str(value))  # before it is cut short, for a URL without its end is none
    except Exception:  # a broken __str__ must not silence the line
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "..."


def _escaped(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _trace(record: logging.LogRecord) -> list[str]:
    formatter = logging.Formatter()
    lines: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        lines += formatter.formatException(record.exc_info).splitlines()
    if record.stack_info:
        lines += record.stack_info.splitlines()
    return [_escaped(without_secrets(line)) for line in lines]


def _priority(level: int) -> int:
    """syslog(3): 2 critical, 3 error, 4 warning, 6 informational, 7 debug."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7
