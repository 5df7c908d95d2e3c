# SPDX-License-Identifier: Apache-2.0
"""What a target and its distribution point say to each other below /target, as JSON objects; times are seconds since 1970.

A boot image is older or newer than the point that it meets, so whoever reads leaves keys alone that it does not know. What it
does know is of its type and in its range, or the message is none: MalformedMessage, whose `reason` is "json", "missing",
"wire" or "value".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

from dpd.errors import MalformedMessage
from dpd.sequence.variables import MAX_NAME_CHARACTERS, MAX_VALUE_CHARACTERS, MAX_VARIABLES, Variable

WIRE = 1
MAX_BODY_BYTES = 64 << 10  # what a target sends, but for logs and captures
MAX_ANSWER_BYTES = 32 << 20  # a sequence of 1 MiB and variables of 4 million characters, escaped
MAX_LOG_BYTES = 4 << 20
MAX_MESSAGE_CHARACTERS = 1000
MAX_REPORTS = 128  # with messages of usual length within a body
MAX_NUMBER = 2**53 - 1  # what every reader of JSON keeps exact
MAX_MACS = 32

_HEX = re.compile(r"[0-9a-f]{16,128}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_STEP_ID = re.compile(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,3}){0,15}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORD = re.compile(r"[a-z0-9_]{1,32}")

M = TypeVar("M")


class StepState(StrEnum):
    """What a report says of a step, or with the step "" of the whole run."""

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    RESTARTING = "restarting"
    SEQUENCE_DONE = "sequence_done"
    SEQUENCE_FAILED = "sequence_failed"
    CANCELLED = "cancelled"


ENDS = frozenset({StepState.SEQUENCE_DONE, StepState.SEQUENCE_FAILED, StepState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Hello:
    """POST /target/hello: who booted, and the proof from its kernel's command line. `boot` is of the target's own making, so that
    a hello whose answer was lost can be said again. `facts` are told for people to see and decide nothing."""

    proof: str = field(repr=False)
    macs: tuple[str, ...]
    guid: str
    arch: str
    firmware: str
    agent: str
    boot: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """A deployment that the machine may take; a required one it takes without asking."""

    deployment: int
    name: str
    sequence: str
    version: int
    purpose: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a hello, and to a resume (whose offers are empty). `session` opens everything else."""

    session: str = field(repr=False)
    computer: str
    machine: str
    server_time: float
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Take:
    """POST /target/take: this deployment, now."""

    deployment: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a take: the signed sequence, its variables, and what opens a session after a restart."""

    execution: str
    document: str = field(repr=False)
    variables: tuple[Variable, ...]
    resume: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resume:
    """POST /target/resume: a run that goes on after a restart."""

    execution: str
    resume: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a step. `number` counts from 1 without gaps; with 0 it is progress alone, which may be lost."""

    number: int
    at: float
    step: str
    state: StepState
    message: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    rate_bit_s: int = 0


@dataclass(frozen=True, slots=True)
class Reports:
    """POST /target/report: what has been waiting, in order."""

    execution: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to reports: the number that is expected next, and why the run is to stop, "" where it is not."""

    next: int
    cancel: str = ""


@dataclass(frozen=True, slots=True)
class CaptureWish:
    """POST /target/captures: a place for an image of this size as a new version of a package."""

    execution: str
    package_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CapturePlace:
    """The answer, also to each piece that is put there: how much of it has been kept."""

    offset: int
    capture: str = ""


@dataclass(frozen=True, slots=True)
class CaptureEnd:
    """POST /target/captures/ID/finish: all of it was sent."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Captured:
    """The answer: the version that it has become."""

    package_id: str
    source_version: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The body of every answer that is none: a code and a sentence with the next step."""

    error: str
    message: str


def encode(message: object) -> bytes:
    """Any of these messages as its body. Of a Hello it says the wire's version, too."""
    tree = _tree(message)
    if isinstance(message, Hello):
        tree = {"wire": WIRE, **tree}
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def decode(kind: type[M], body: bytes) -> M:
    """The message of this kind that a body is. Raises MalformedMessage."""
    try:
        tree = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedMessage("json", f"expected a JSON object, a {kind.__name__}") from None
    return from_tree(kind, tree)


def from_tree(kind: type[M], tree: Any) -> M:
    """The same of JSON that has been parsed. Raises MalformedMessage."""
    return _READERS[kind](_Object(tree, kind.__name__))  # type: ignore[no-any-return]


def _tree(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_tree(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {each.name: _tree(getattr(value, each.name)) for each in fields(value)}
    return value


class _Object:
    """A JSON object while it is read; each verb raises MalformedMessage."""

    def __init__(self, tree: Any, what: str) -> None:
        if not isinstance(tree, dict):
            raise MalformedMessage("json", f"{what}: expected an object")
        self._tree, self._what = tree, what

    def wrong(self, key: str, expected: str, reason: str = "value") -> MalformedMessage:
        return MalformedMessage(reason, f"{self._what}: {key}: expected {expected}")

    def value(self, key: str, default: Any = None) -> Any:
        found = self._tree.get(key, default)
        if found is None:
            raise self.wrong(key, "to be there", "missing")
        return found

    def text(self, key: str, most: int = 256, default: str | None = None) -> str:
        found = self.value(key, default)
        if not isinstance(found, str) or len(found) > most:
            raise self.wrong(key, f"a text of at most {most} characters")
        try:
            found.encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair, which no file and no database takes
            raise self.wrong(key, "a text of whole characters") from None
        return found

    def like(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        found = self.text(key)
        if not pattern.fullmatch(found):
            raise self.wrong(key, expected)
        return found

    def hex(self, key: str) -> str:
        return self.like(key, _HEX, "16 to 128 lower-case hexadecimal digits")

    def whole(self, key: str, low: int = 0, high: int = MAX_NUMBER, default: int | None = None) -> int:
        found = self.value(key, default)
        if type(found) is not int or not low <= found <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return found

    def moment(self, key: str) -> float:
        found = self.value(key)
        if type(found) not in (int, float) or not 0 <= found <= 2**40:
            raise self.wrong(key, "seconds since 1970")
        return float(found)

    def flag(self, key: str, default: bool = False) -> bool:
        found = self.value(key, default)
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false")
        return found

    def list(self, key: str, most: int, default: Sequence[Any] | None = None) -> Sequence[Any]:
        found = self.value(key, default)
        if not isinstance(found, list | tuple) or len(found) > most:
            raise self.wrong(key, f"a list of at most {most}")
        return found

    def object(self, key: str) -> dict[str, Any]:
        found = self.value(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, "an object")
        return found


def _hello(body: _Object) -> Hello:
    if (wire := body.whole("wire")) != WIRE:
        raise MalformedMessage("wire", f"Hello: wire {wire}, expected {WIRE}; build the boot image with this dpd")
    macs = tuple(body.list("macs", MAX_MACS))
    if not all(isinstance(mac, str) and _MAC.fullmatch(mac) for mac in macs):
        raise body.wrong("macs", "addresses such as 52:54:00:12:34:56")
    proof, boot = body.hex("proof"), body.hex("boot")
    arch, firmware = body.text("arch", 16), body.text("firmware", 16)
    return Hello(
        proof, macs, body.text("guid", 64, ""), arch, firmware, body.text("agent", 64, ""), boot, body.object("facts")
    )


def _offer(body: _Object) -> Offer:
    return Offer(
        body.whole("deployment", 1),
        body.text("name", default=""),
        body.text("sequence"),
        body.whole("version", 1),
        body.like("purpose", re.compile("required|available"), '"required" or "available"'),
        body.text("description", default=""),
    )


def _welcome(body: _Object) -> Welcome:
    offers = tuple(from_tree(Offer, each) for each in body.list("offers", 1000, ()))
    session, computer, machine = body.hex("session"), body.text("computer", default=""), body.text("machine")
    return Welcome(session, computer, machine, body.moment("server_time"), offers)


def _variable(body: _Object) -> Variable:
    return Variable(
        body.text("name", MAX_NAME_CHARACTERS), body.text("value", MAX_VALUE_CHARACTERS), body.flag("secret")
    )


def _taken(body: _Object) -> Taken:
    variables = tuple(from_tree(Variable, each) for each in body.list("variables", MAX_VARIABLES))
    return Taken(body.hex("execution"), body.text("document", MAX_ANSWER_BYTES), variables, body.hex("resume"))


def _report(body: _Object) -> Report:
    state = body.text("state")
    if state not in list(StepState):
        raise body.wrong("state", f"one of {', '.join(StepState)}")
    step = body.text("step", default="")
    if step and not _STEP_ID.fullmatch(step):
        raise body.wrong("step", 'a place in the tree such as "2.1", or ""')
    return Report(
        body.whole("number"),
        body.moment("at"),
        step,
        StepState(state),
        body.text("message", MAX_MESSAGE_CHARACTERS, ""),
        body.whole("done_bytes", default=0),
        body.whole("total_bytes", default=0),
        body.whole("rate_bit_s", default=0),
    )


def _reports(body: _Object) -> Reports:
    return Reports(body.hex("execution"), tuple(from_tree(Report, each) for each in body.list("reports", MAX_REPORTS)))


def _capture_wish(body: _Object) -> CaptureWish:
    package_id = body.like("package_id", _PACKAGE_ID, "1 to 64 of [A-Za-z0-9._-]")
    return CaptureWish(body.hex("execution"), package_id, body.whole("size_bytes", 1))


_READERS: dict[type[Any], Any] = {
    Hello: _hello,
    Offer: _offer,
    Welcome: _welcome,
    Take: lambda body: Take(body.whole("deployment", 1)),
    Variable: _variable,
    Taken: _taken,
    Resume: lambda body: Resume(body.hex("execution"), body.hex("resume")),
    Report: _report,
    Reports: _reports,
    Receipt: lambda body: Receipt(body.whole("next", 1), body.text("cancel", MAX_MESSAGE_CHARACTERS, "")),
    CaptureWish: _capture_wish,
    CapturePlace: lambda body: CapturePlace(body.whole("offset"), body.text("capture", default="")),
    CaptureEnd: lambda body: CaptureEnd(body.like("sha256", _SHA256, "64 lower-case hexadecimal digits")),
    Captured: lambda body: Captured(
        body.like("package_id", _PACKAGE_ID, "1 to 64 of [A-Za-z0-9._-]"), body.whole("source_version", 1)
    ),
    Refusal: lambda body: Refusal(
        body.like("error", _WORD, "a code such as proof_used"), body.text("message", MAX_MESSAGE_CHARACTERS)
    ),
}
