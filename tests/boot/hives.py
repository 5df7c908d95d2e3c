# SPDX-License-Identifier: Apache-2.0
"""Hives read by hivex, which was written by others: the library for trees, its hivexregedit for a regedit-style export."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpd.boot.registry import Key, Value, ValueType

NONE = ctypes.c_size_t(0)


def _library() -> Any:
    try:
        return ctypes.CDLL("libhivex.so.0", use_errno=True)
    except OSError:
        return None


LIBRARY = _library()
needs_hivex = [
    pytest.mark.interop,
    pytest.mark.skipif(
        LIBRARY is None or shutil.which("hivexregedit") is None, reason="missing: hivexregedit (libhivex-bin)"
    ),
]


def with_hivex(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that is about what hivex reads."""
    for mark in needs_hivex:
        test = mark(test)
    return test


def read_hive(hive: bytes, folder: Path) -> Key:
    """The whole tree as hivex sees it; keys in the order of the hive."""
    path = folder / "hive"
    path.write_bytes(hive)
    for name, result in (("hivex_open", ctypes.c_void_p), ("hivex_root", ctypes.c_size_t)):
        getattr(LIBRARY, name).restype = result
    for name in ("node_name", "node_children", "node_values", "value_key", "value_value"):
        getattr(LIBRARY, f"hivex_{name}").restype = ctypes.c_void_p
    handle = ctypes.c_void_p(LIBRARY.hivex_open(str(path).encode(), 0))
    assert handle.value, f"hivex refuses the hive: errno {ctypes.get_errno()}"
    try:
        return _key(handle, ctypes.c_size_t(LIBRARY.hivex_root(handle)))
    finally:
        LIBRARY.hivex_close(handle)


def _key(handle: Any, node: Any) -> Key:
    name = _text(LIBRARY.hivex_node_name(handle, node))
    values = tuple(_value(handle, each) for each in _handles(LIBRARY.hivex_node_values(handle, node)))
    children = _handles(LIBRARY.hivex_node_children(handle, node))
    return Key(name, values, tuple(_key(handle, each) for each in children))


def _value(handle: Any, value: Any) -> Value:
    kind, length = ctypes.c_int(), ctypes.c_size_t()
    place = LIBRARY.hivex_value_value(handle, value, ctypes.byref(kind), ctypes.byref(length))
    assert place, "hivex cannot read a value"
    content = ctypes.string_at(place, length.value)
    _free(place)
    return Value(_text(LIBRARY.hivex_value_key(handle, value)), ValueType(kind.value), content)


def _handles(place: int | None) -> Iterator[Any]:
    assert place, "hivex cannot read a list"
    found = ctypes.cast(place, ctypes.POINTER(ctypes.c_size_t))
    at = 0
    handles = []
    while found[at]:
        handles.append(ctypes.c_size_t(found[at]))
        at += 1
    _free(place)
    return iter(handles)


def _text(place: int | None) -> str:
    assert place, "hivex cannot read a name"
    text = ctypes.string_at(place).decode()
    _free(place)
    return text


def _free(place: int) -> None:
    ctypes.CDLL(None).free(ctypes.c_void_p(place))


def export(hive: bytes, folder: Path) -> dict[str, dict[str, str]]:
    """What regedit would write to a .reg file: for each key its values as text."""
    path = folder / "exported"
    path.write_bytes(hive)
    ran = subprocess.run(["hivexregedit", "--export", path, "\\"], capture_output=True, check=True)
    keys: dict[str, dict[str, str]] = {}
    for line in ran.stdout.decode().splitlines():
        if line.startswith("["):
            values = keys.setdefault(line[1:-1], {})
        elif found := re.fullmatch(r'(?:"(.*)"|@)=(.*)', line):
            values[found[1] or ""] = found[2]
    return keys
