# SPDX-License-Identifier: Apache-2.0
"""One event of a boot in plain words, for whoever reads the story of a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpd.telemetry.journal import BootEvent

Fields = Mapping[str, str | int]

IGNORED = {
    "lease_request": "asks the lease server {lease_server} for {address}; dpd stays out of it",
    "too_early": "not answered yet: it has been asking for {secs} s, less than the response delay",
    "switched_off": "not answered: pxe.respond is false",
    "no_rule": "not answered: no rule has a loader for this class and architecture",
    "chain_broken": "not answered: the loader's Secure Boot chain is broken: {detail}",
    "wrong_port": "not answered: this kind of question does not belong on that port",
}
OUTCOMES = {
    "boot": "boot without a key",
    "prompt": "let the user decide",
    "abort": "go on with the next boot device",
    "wait": "wait for approval",
    "silent": "do not answer",
}
FLAGS = {
    "lease": "a lease",
    "file": "a boot file",
    "next_server": "a next-server",
    "option60": "option 60",
    "proxy": "its own proxyDHCP offer",
}


def in_words(event: BootEvent) -> str:
    """The sentence for an event; its bare fields where there is none."""
    write = _WRITERS.get(event.event)
    return write(event.fields) if write is not None else f"{event.event} {_bare(event.fields)}".strip()


def _bare(fields: Fields) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _said(fields: Fields, name: str, before: str = " ", after: str = "") -> str:
    """The field with its surroundings, nothing where it is empty."""
    value = fields.get(name, "")
    return f"{before}{value}{after}" if value not in ("", "0.0.0.0") else ""


def _discover(fields: Fields) -> str:
    family = " over IPv6" if fields.get("family") == 6 else ""
    asked = f"asks for a network boot{family} as {fields.get('client_class', '?')}, {fields.get('client_arch', '?')}"
    return asked + _said(fields, "secs", ", asking for ", " s") + _said(fields, "relay", ", by way of relay ")


def _boot_request(fields: Fields) -> str:
    return "comes to the boot server (4011)" + _said(fields, "address", " from ") + " for its file"


def _decision(fields: Fields) -> str:
    outcome = OUTCOMES.get(str(fields.get("outcome")), str(fields.get("outcome", "?")))
    about = _said(fields, "computer", ", computer ") + _said(fields, "deployment", ", deployment ")
    about += _said(fields, "code", ", code ")
    return f"policy: {outcome} ({fields.get('cause', '?')}{about})" + _said(fields, "boot_image", ", boot image ")


def _answer(fields: Fields) -> str:
    if fields.get("loader") == "":
        return "is given a boot menu in place of a file" + _said(fields, "server", " by ")
    told = f"is told to load {fields.get('loader', '?')}" + _said(fields, "server", " from ")
    return told + _said(fields, "rule", " (rule ", ")")


def _ignored(fields: Fields) -> str:
    reason = str(fields.get("reason", "?"))
    words = IGNORED.get(reason)
    return words.format_map(_Filled(fields)) if words else f"not answered: {reason}" + _said(fields, "detail", ": ")


class _Filled(dict[str, str | int]):
    """Fields, with a question mark for those that are not there."""

    def __missing__(self, name: str) -> str:
        return "?"


def _ticket(fields: Fields) -> str:
    image = _said(fields, "boot_image", " for boot image ")
    return f"gets boot ticket {fields.get('id', '?')}{image}" + _said(fields, "expires_in_s", ", good for ", " s")


def _tftp(fields: Fields) -> str:
    file, verdict = fields.get("file", "?"), fields.get("verdict", "?")
    if verdict == "completed":
        return f"has fetched {file} by TFTP ({fields.get('bytes', '?')} bytes)"
    if verdict == "probe":
        return f"has asked by TFTP how large {file} is"
    if verdict == "refused":
        return f"was refused {file} by TFTP" + _said(fields, "detail", ": ")
    at = f" after {fields.get('bytes', 0)} bytes in blocks of {fields.get('blksize', '?')}"
    return f"TFTP of {file} ended without success ({verdict}){at}" + _said(fields, "detail", ": ")


def _http(fields: Fields) -> str:
    words = {"started": "begins to fetch", "finished": "has fetched", "broken": "broke off"}
    step = words.get(str(fields.get("step")), str(fields.get("step", "?")))
    return f"{step} {fields.get('file', '?')} by HTTP" + _said(fields, "bytes", " (", " bytes)")


def _image_fetched(fields: Fields) -> str:
    return "has all of its boot image" + _said(fields, "file", "; the last of it was ")


def _refused_file(fields: Fields) -> str:
    reason = str(fields.get("reason", "?")).replace("_", " ")
    return f"was refused {fields.get('file', '?')}: {reason}" + _said(fields, "detail", ": ")


def _loader_fault(fields: Fields) -> str:
    return f"{fields.get('file', '?')} has a fault" + _said(fields, "detail", ": ")


def _approval(fields: Fields) -> str:
    return f"approval: {fields.get('state', '?')}" + _said(fields, "by", " by ")


def _foreign_offer(fields: Fields) -> str:
    flags = [FLAGS.get(flag, flag) for flag in str(fields.get("flags", "")).split()]
    offered = ", ".join(flags) or "something"
    return f"another server, {fields.get('server', '?')}, offers {offered}" + _said(fields, "loader", ": ")


def _wire_request(fields: Fields) -> str:
    return f"asks again by TFTP for {fields.get('file', '?')}: seen at the network card"


def _conflict(fields: Fields) -> str:
    if fields.get("kind") == "duplicate_guid":
        return f"its GUID {fields.get('guid', '?')} is also told by {fields.get('others', '?')}"
    return f"conflict: {_bare(fields)}"


def _send_failed(fields: Fields) -> str:
    return "the answer could not be sent" + _said(fields, "destination", " to ")


def _target(fields: Fields) -> str:
    match fields.get("step"):
        case "refused":
            return f"is refused a task sequence ({fields.get('reason', '?')})" + _said(fields, "detail", ": ")
        case "taken":
            return f"takes task sequence {fields.get('sequence', '?')} version {fields.get('version', '?')}" + _said(fields, "execution", ", execution ")  # fmt: skip
    return f"has booted and shown its proof; task sequences for it: {fields.get('offers', '?')}"


_WRITERS: dict[str, Callable[[Fields], str]] = {
    "discover": _discover,
    "boot_request": _boot_request,
    "decision": _decision,
    "offer": _answer,
    "boot_reply": _answer,
    "ignored": _ignored,
    "ticket": _ticket,
    "tftp": _tftp,
    "http": _http,
    "image_fetched": _image_fetched,
    "refused_file": _refused_file,
    "loader_fault": _loader_fault,
    "approval": _approval,
    "target": _target,
    "foreign_offer": _foreign_offer,
    "wire_request": _wire_request,
    "conflict": _conflict,
    "send_failed": _send_failed,
}
