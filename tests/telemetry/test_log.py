# SPDX-License-Identifier: Apache-2.0
"""Log lines: three forms, and values that would break a careless one."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.telemetry.log import JournalFormatter, JsonFormatter, TextFormatter, set_level, setup

FORMATTERS = [TextFormatter(), JournalFormatter(), JsonFormatter()]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def make_record(message: str = "file sent", *args: Any, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "dpd.service.http.server",
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message,
            "args": args,
        }
        | {"created": 1_700_000_000.25}
        | fields
    )


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_passwords_and_tokens_in_urls_go_into_no_line(formatter: logging.Formatter) -> None:
    url = "https://bea:h\u00fcnter2@dp1/a?token=hunter2"
    try:
        raise ValueError(f"no answer from {url}")
    except ValueError:
        trace = sys.exc_info()
    record = make_record("asked %s", url, url=url, long="x" * 980 + " " + url, deep={"a": [url]}, exc_info=trace)
    line = formatter.format(record)
    assert "nter2" not in line
    assert line.count("@dp1/a") >= 3


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, given back as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_text_has_level_logger_message_and_fields() -> None:
    line = TextFormatter().format(make_record(peer="10.0.0.5", size_bytes=12))
    assert line.split(" ", 1)[1] == "INFO    service.http.server  file sent peer=10.0.0.5 size_bytes=12"


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_journal_lines_carry_their_priority(level: int, priority: int) -> None:
    assert JournalFormatter().format(make_record(level=level, peer="a")) == f"<{priority}>file sent peer=a"


def test_json_is_one_object_with_the_values_as_they_are() -> None:
    fields: dict[str, Any] = {
        "bytes": 5,
        "rate": 1.5,
        "done": True,
        "missing": None,
        "path": Path("/x"),
        "broken": float("nan"),
    }
    entry = json.loads(JsonFormatter().format(make_record(**fields)))
    assert entry == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "logger": "dpd.service.http.server",
        "message": "file sent",
        "bytes": 5,
        "rate": 1.5,
        "done": True,
        "missing": None,
        "path": "/x",
        "broken": "nan",
    }


def test_values_with_blanks_and_quotes_are_quoted() -> None:
    line = JournalFormatter().format(make_record(file='a "b" c', empty="", pair="x=y"))
    assert line == '<6>file sent file="a \\"b\\" c" empty="" pair="x=y"'


def test_a_value_from_the_wire_cannot_forge_a_line() -> None:
    for formatter in FORMATTERS:
        line = formatter.format(make_record("said %s", "a\n<0>panic", file="x\r\n<0>forged\x1b[2J"))
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


def test_a_traceback_keeps_the_priority_on_each_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = make_record("failed", level=logging.ERROR, exc_info=sys.exc_info())
    lines = JournalFormatter().format(record).splitlines()
    assert lines[0] == "<3>failed"
    assert all(line.startswith("<3>") for line in lines)
    assert "ValueError: first" in "".join(lines)
    assert "ValueError: first" in json.loads(JsonFormatter().format(record))["exception"]


def test_what_cannot_be_shown_is_named() -> None:
    for formatter in FORMATTERS:
        assert "Unprintable that cannot be shown" in formatter.format(make_record(value=Unprintable()))
        assert "int that cannot be shown" in formatter.format(make_record(value=10**5000))


def test_a_message_whose_arguments_do_not_fit_is_still_told() -> None:
    for formatter in FORMATTERS:
        assert "count %d" in formatter.format(make_record("count %d", "many"))


def test_a_long_value_is_cut() -> None:
    assert len(TextFormatter().format(make_record(file="x" * 100_000))) < 1200


@given(st.text(), st.text() | st.binary() | st.floats() | st.integers() | st.lists(st.text()))
def test_any_value_makes_one_line_of_utf8(message: str, value: Any) -> None:
    for formatter in FORMATTERS:
        line = formatter.format(make_record(message, value=value))
        assert len(line.splitlines()) == 1
        line.encode()


def test_setup_replaces_what_was_there_and_sets_the_level(root: logging.Logger) -> None:
    first, second = io.StringIO(), io.StringIO()
    setup("json", "info", first)
    setup("text", "warning", second)
    logging.getLogger("dpd.x").info("quiet")
    logging.getLogger("dpd.x").warning("loud")
    set_level("debug")
    logging.getLogger("dpd.x").debug("whispered")
    assert first.getvalue() == ""
    assert [line.split("x  ")[1] for line in second.getvalue().splitlines()] == ["loud", "whispered"]


def test_auto_is_json_where_nobody_looks(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stream = io.StringIO()
    setup("auto", "info", stream)
    logging.getLogger("dpd").info("hello")
    assert json.loads(stream.getvalue())["message"] == "hello"


SCRIPT = (
    "import logging; from dpd.telemetry.log import setup; setup('auto', 'info'); logging.info('hello', extra={'a': 1})"
)


def test_auto_knows_the_journal_by_its_stream(tmp_path: Path) -> None:
    with open(tmp_path / "journal", "w+") as stream:
        status = os.fstat(stream.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run([sys.executable, "-c", SCRIPT], stderr=stream, env=environment, check=True)
    assert (tmp_path / "journal").read_text() == "<6>hello a=1\n"


def test_auto_is_text_on_a_terminal() -> None:
    parent, child = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", SCRIPT], stderr=child, check=True)
        assert os.read(parent, 1000).decode().strip().endswith("INFO    root  hello a=1")
    finally:
        os.close(parent)
        os.close(child)
