# SPDX-License-Identifier: Apache-2.0
"""The catalogue of status messages: for each event its number, its severity and its sentence.

Numbers never change and are never given twice, so that a filter written today holds tomorrow. They go by hundreds, as the table
below has them. A sentence takes its fields in braces; a part in brackets is left out where one of its fields is missing or empty.
An event that is noted and not in the catalogue is a fault that a test finds; a message of a newer dpd, read by an older one, is
shown by its name and fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from dpd.errors import DpdError

Value = str | int | float | bool

MAX_VALUE_CHARACTERS = 1000  # of one field; an error may quote what a peer sent
_FIELD = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^\]]*)\]")


class MalformedStatusMessage(DpdError):
    """What came as a status message is none."""


class Severity(StrEnum):
    """As the original has them."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return _RANKS[self]


_RANKS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
SEVERITIES: Final[tuple[Severity, ...]] = tuple(Severity)  # by rank


@dataclass(frozen=True, slots=True)
class Definition:
    """What the catalogue says of one event."""

    message_id: int
    severity: Severity
    sentence: str


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """One thing that happened, with its place in the series of its spool. `at` is seconds since the epoch; clocks may be set
    back, sequences never go back."""

    sequence: int
    at: float
    event: str
    message_id: int
    severity: Severity
    fields: dict[str, Value] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The sentence with its fields filled in."""
        return sentence_of(self.event, self.fields)


_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR


def _define(severity: Severity, message_id: int, sentence: str) -> Definition:
    return Definition(message_id, severity, sentence)


CATALOGUE: Final[Mapping[str, Definition]] = {
    # ---- 1000: multicast sessions and their receivers
    "session_started": _define(_INFO, 1001, "Session {session} of {package} is open[ at {group}:{port}]."),
    "session_started_now": _define(_INFO, 1002, "Session {session} of {package} was told to send at once."),
    "session_ended": _define(_INFO, 1003, "Session {session} of {package} ended; {completed} receivers have everything."),
    "receiver_joined": _define(_INFO, 1101, "{peer}[ ({host})] joined session {session} by {mode}."),
    "receiver_completed": _define(_INFO, 1102, "{peer}[ ({host})] has all of {package}."),
    "receiver_silent": _define(_WARNING, 1103, "{peer}[ ({host})] is not heard any more in session {session}; it is not waited for."),
    "receiver_lost": _define(_WARNING, 1104, "{peer}[ ({host})] went away before it had all of {package}."),
    "receiver_moved": _define(_INFO, 1105, "{peer}[ ({host})] goes on in speed class {to_class}: {reason}."),
    "receiver_kicked": _define(_WARNING, 1106, "{peer}[ ({host})] was taken out of session {session}: {reason}."),
    # ---- 2000: jobs
    "job.queued": _define(_INFO, 2001, "Job {job} ({kind}[ {package_id}]) is queued."),
    "job.running": _define(_INFO, 2002, "Job {job} ({kind}[ {package_id}]) runs."),
    "job.waiting": _define(_INFO, 2003, "Job {job} ({kind}[ {package_id}]) waits for its next try[: {error}]."),
    "job.done": _define(_INFO, 2004, "Job {job} ({kind}[ {package_id}]) is done."),
    "job.failed": _define(_ERROR, 2005, "Job {job} ({kind}[ {package_id}]) failed[: {error}]."),
    "job.cancelled": _define(_INFO, 2006, "Job {job} ({kind}[ {package_id}]) was cancelled."),
    "job.cancelling": _define(_INFO, 2007, "Job {job} ({kind}[ {package_id}]) is to end[: {why}]."),
    "maintenance.on": _define(_WARNING, 2101, "Maintenance: {reason}."),
    "maintenance.off": _define(_INFO, 2102, "Maintenance is over[ ({reason})]."),
    # ---- 3000: content
    "content.state": _define(_INFO, 3001, "{package_id} is now {state}[, was {was}]."),
    "content.arrived": _define(_INFO, 3002, "{package_id} version {source_version} arrived[ ({size_bytes} bytes)]."),
    "content.removed": _define(_INFO, 3003, "{package_id} version {source_version} was removed."),
    "content.imported": _define(_INFO, 3004, "{package_id} version {source_version} came from a bundle."),
    "content.pulled": _define(_INFO, 3005, "{package_id} version {source_version} was pulled in {seconds} s."),
    "content.missing": _define(_WARNING, 3006, "A client asked for {package_id}[ version {source_version}], which is not here; job {job} fetches it."),
    "content.damaged": _define(_ERROR, 3007, "{package_id} version {source_version} is damaged: {reason}."),
    "content.repaired": _define(_INFO, 3008, "{package_id} version {source_version} is whole again[, from {origin}]."),
    "content.not_repaired": _define(_ERROR, 3009, "{package_id} version {source_version} could not be repaired: {reason}."),
    "content.manifest_renewed": _define(_WARNING, 3010, "The manifest of {package_id} version {source_version} was damaged and made anew."),
    "content.mixed": _define(_WARNING, 3011, "Sources disagree about the file {sha256}: {why}."),
    "content.delta_failed": _define(_WARNING, 3012, "The file {sha256} is fetched whole, since its changes alone did not do: {why}."),
    "bundle.exported": _define(_INFO, 3101, "A bundle of {packages} packages was written to {path}."),
    "root.drained": _define(_INFO, 3102, "The library's root[ {root}] was emptied."),
    "library.collected": _define(_INFO, 3103, "What no package uses was removed from the library: {freed_bytes} bytes."),
    "source.failed": _define(_WARNING, 3201, "The source {source} could not give what was asked ({outcome}): {why}."),
    "source.lied": _define(_ERROR, 3202, "The source {source} gave wrong bytes: {why}."),
    # ---- 4000: network boots
    "boot.granted": _define(_INFO, 4001, "{mac}[ ({computer})] may boot[ {boot_image}]: {cause}[, deployment {deployment}]."),
    "boot.refused": _define(_INFO, 4002, "{mac}[ ({computer})] is not to boot: {cause}[, deployment {deployment}]."),
    "boot.waiting": _define(_WARNING, 4003, "{mac} is unknown and waits for approval[; its screen shows {code}]."),
    "boot.approved": _define(_INFO, 4004, "{mac} was approved by {by}."),
    "boot.denied": _define(_INFO, 4005, "{mac} was denied by {by}."),
    "boot.loader_fetched": _define(_INFO, 4006, "{mac}[ ({computer})] has fetched {file}."),
    "boot.finished": _define(_INFO, 4007, "{mac}[ ({computer})] has all of its boot image[ {boot_image}]."),
    "boot.failed": _define(_ERROR, 4008, "{mac}[ ({computer})] did not boot: {sentence}[ {next_step}]"),
    "boot.unfinished": _define(_WARNING, 4009, "{mac}, for which nothing was deployed, did not go on with its network boot: {sentence}[ {next_step}]"),
    "boot.unreported": _define(_WARNING, 4101, "{count} more boots began than status messages tell of: too many in a short time."),
    "boot.failures": _define(_WARNING, 4102, "{count} more boots did not end well than status messages tell of: {causes}."),
    # ---- 5000: the daemon and the messages themselves
    "daemon.ready": _define(_INFO, 5001, "dpd {version} is ready."),
    "daemon.draining": _define(_INFO, 5002, "dpd is shutting down and takes no new work."),
    "messages.dropped": _define(_WARNING, 5101, "{count} status messages, {first} to {last}, made room for newer ones before {readers} had them."),
    "messages.lost": _define(_ERROR, 5102, "{count} status messages could not be written and are lost, between {first_at} and {last_at} (seconds since the epoch)[: {error}]."),
    "messages.damaged": _define(_ERROR, 5103, "The file of status messages was damaged; it is kept as {path}, and what nobody had confirmed of[ series {series} in] it is lost."),
    # ---- 6000: policy
    "policy.changed": _define(_INFO, 6001, "Policy version {policy_version}: {action}[ ({detail})], by {actor}."),
    "sequence.published": _define(_INFO, 6101, "Task sequence {sequence} version {version} was published by {actor}."),
    "sequence.removed": _define(_INFO, 6102, "Task sequence {sequence} version {version} was removed by {actor}."),
    # ---- 7000: the bus, as a distribution point sees it
    "bus.connected": _define(_INFO, 7001, "The bus is connected[ at {server}]."),
    "bus.lost": _define(_WARNING, 7002, "The connection to the bus is lost: {cause}."),
    "bus.policy_mirrored": _define(_INFO, 7003, "Policy version {policy_version} of site {site} holds here now."),
    "bus.policy_refused": _define(_ERROR, 7004, "A policy of site {site} was refused, version {policy_version} goes on: {error}."),
    # ---- 8000: the site server
    "point.present": _define(_INFO, 8001, "Distribution point {point} is there."),
    "point.away": _define(_WARNING, 8002, "Distribution point {point} is away[; last heard {silent_s} s ago]."),
    "point.named_twice": _define(
        _ERROR, 8004, "Two hosts say that they are distribution point {point}; give one of them another bus.point."
    ),
    "site.steered": _define(_INFO, 8005, "This site server steers site {site}[, after the one on {before}]."),
    "site.waiting": _define(_WARNING, 8006, "Site {site} is steered by the site server on {host} (pid {pid}); this one waits."),
    "site.lease_lost": _define(_ERROR, 8007, "This site server has stopped steering site {site}: {cause}."),
    "site.not_taken_over": _define(_ERROR, 8008, "Nobody steers site {site}, which the site server on {before} has left: {cause}."),
    "point.messages_missing": _define(_ERROR, 8009, "{count} status messages of distribution point {point}, between {first} and {last}, never came; the stream of a leaf node may have been full."),
    "point.cloned": _define(_ERROR, 8010, "Distribution points {point} and {other} number their status messages alike, as a host and its copy do; stop dpd on the copy, take messages.db out of its state_dir, and start it again."),
    "policy.published": _define(_INFO, 8003, "Policy version {version} of the site is on the bus ({bytes} bytes)."),
    # ---- 9000: deployments under way
    "deployment.started": _define(_INFO, 9001, "{mac}[ ({computer})] began task sequence {sequence} version {version}, deployment {deployment}."),
    "deployment.step_failed": _define(_WARNING, 9002, "{mac}[ ({computer})]: step {step}[ ({step_name})] of {sequence} failed[: {error}].[ {next_step}]"),
    "deployment.done": _define(_INFO, 9003, "{mac}[ ({computer})] is deployed: task sequence {sequence} version {version} is done after {seconds} s."),
    "deployment.failed": _define(_ERROR, 9004, "{mac}[ ({computer})]: task sequence {sequence} version {version} failed[ at step {step}][ ({step_name})][: {error}].[ {next_step}]"),
    "deployment.cancelling": _define(_INFO, 9005, "{mac}[ ({computer})] is told to stop its task sequence {sequence}, by {actor}: {reason}."),
    "deployment.cancelled": _define(_WARNING, 9006, "{mac}[ ({computer})] has stopped its task sequence {sequence}[: {reason}]."),
    "deployment.silent": _define(_WARNING, 9007, "{mac}[ ({computer})] says nothing any more in task sequence {sequence}[, step {step}][ ({step_name})].[ {next_step}]"),
    "deployment.heard_again": _define(_INFO, 9008, "{mac}[ ({computer})] is heard again in task sequence {sequence}."),
    "deployment.lost": _define(_ERROR, 9009, "{mac}[ ({computer})]: task sequence {sequence} version {version} did not end[: {error}].[ {next_step}]"),
    "deployment.captured": _define(_INFO, 9010, "{mac}[ ({computer})] was captured to {package_id} version {source_version} ({size_bytes} bytes)."),
}  # fmt: skip
# Free for those who add: 5500 doors and roles, 6000 policy and site model, 7000 bus, 8000 site server, 9000 deployments under way.

UNKNOWN: Final = Definition(0, Severity.INFO, "")


def definition_of(event: str) -> Definition:
    """What the catalogue says; number 0 for an event that it does not have."""
    return CATALOGUE.get(event, UNKNOWN)


def sentence_of(event: str, fields: Mapping[str, Value]) -> str:
    """The event in words, one line."""
    sentence = definition_of(event).sentence
    if not sentence:
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if value != "")
        return _shown(f"{event.replace('_', ' ')} {shown}".strip())

    def part(found: re.Match[str]) -> str:
        has_all = all(fields.get(name, "") != "" for name in _FIELD.findall(found[1]))
        return found[1] if has_all else ""

    return _FIELD.sub(lambda found: _shown(fields.get(found[1], "?")), _OPTIONAL.sub(part, sentence))


def _shown(value: Value) -> str:
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def as_dict(message: StatusMessage) -> dict[str, object]:
    """For JSON, with the sentence, so that who reads it needs no catalogue."""
    return {
        "sequence": message.sequence,
        "at": message.at,
        "event": message.event,
        "message_id": message.message_id,
        "severity": message.severity.value,
        "text": message.text,
        "fields": message.fields,
    }


def from_dict(given: object) -> StatusMessage:
    """What `as_dict` made, perhaps of a newer dpd: keys that are not known are left out. Raises MalformedStatusMessage."""
    if not isinstance(given, dict):
        raise MalformedStatusMessage(f"a status message is an object, not {type(given).__name__}")
    fields = _expect(given, "fields", dict)
    if not all(isinstance(name, str) and isinstance(value, Value) for name, value in fields.items()):
        raise MalformedStatusMessage("fields: expected names with texts, numbers, true or false")
    severity = _expect(given, "severity", str)
    if severity not in SEVERITIES:
        raise MalformedStatusMessage(f"severity: expected one of {', '.join(SEVERITIES)}")
    return StatusMessage(
        _expect(given, "sequence", int),
        float(_expect(given, "at", int, float)),
        _expect(given, "event", str),
        _expect(given, "message_id", int),
        Severity(severity),
        fields,
    )


def _expect(given: Mapping[str, object], name: str, *types: type) -> Any:
    value = given.get(name)
    if not isinstance(value, types) or isinstance(value, bool):
        raise MalformedStatusMessage(f"{name}: expected {' or '.join(each.__name__ for each in types)}")
    return value
