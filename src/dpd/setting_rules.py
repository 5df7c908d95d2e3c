# SPDX-License-Identifier: Apache-2.0
"""What a setting may be: each rule gives a field with its default, its check, and the words for what is allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any

Check = Callable[[Any], bool]


def key(default: Any, allowed: str, check: Check, *, live: bool = True) -> Any:
    """One setting. `allowed` completes the sentence "expected …"; `live` is False where a change needs a restart."""
    return field(default=default, metadata={"allowed": allowed, "check": check, "live": live})


def number(default: int | float, low: int | float, high: int | float, unit: str = "", *, live: bool = True) -> Any:
    kind = "a whole number" if isinstance(default, int) else "a number"
    allowed = f"{kind} from {low} to {high}" + (f" ({unit})" if unit else "")
    return key(default, allowed, lambda value: low <= value <= high, live=live)


def flag(default: bool, *, live: bool = True) -> Any:
    return key(default, "true or false", lambda _: True, live=live)


def text(default: str, allowed: str = "a text", check: Check = lambda _: True, *, live: bool = True) -> Any:
    return key(default, allowed, check, live=live)


def choice(default: str, *choices: str, live: bool = True) -> Any:
    return key(default, "one of " + ", ".join(f'"{c}"' for c in choices), lambda value: value in choices, live=live)


def is_host_name(value: str) -> bool:
    """A name that DNS may know; "" is none."""
    return not value or (
        len(value) <= 253 and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value) is not None
    )


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def is_ipv4(value: str) -> bool:
    return is_address(value) and ipaddress.ip_address(value).version == 4


def is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def is_mac(value: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value) is not None


def is_guid(value: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is not None


def split_endpoint(value: str) -> tuple[str, int]:
    """ADDRESS:PORT in its parts, IPv6 in brackets. Raises ValueError."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    else:
        ipaddress.IPv4Address(host)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    return host, int(port)


def is_endpoint(value: str) -> bool:
    try:
        split_endpoint(value)
    except ValueError:
        return False
    return True


def is_path(value: str) -> bool:
    return value.startswith("/") and value.isprintable()


def is_multicast_network(value: str) -> bool:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        return False
    return network.is_multicast


def address(default: str, *, live: bool = False) -> Any:
    return text(default, 'an IP address such as "0.0.0.0"', is_address, live=live)


def path(default: str, *, live: bool = False) -> Any:
    return text(default, "an absolute path", is_path, live=live)


def optional_path(what: str) -> Any:
    return text("", f'"" or the absolute path of {what}', lambda v: v == "" or is_path(v), live=False)


def endpoint(default: str, what: str) -> Any:
    allowed = f'"" or {what} as ADDRESS:PORT, IPv6 as [ADDRESS]:PORT'
    return text(default, allowed, lambda v: v == "" or is_endpoint(v), live=False)
