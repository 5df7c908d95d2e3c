# SPDX-License-Identifier: Apache-2.0
"""Each kind of table of a declaration as its record. What is wrong is written down in the table, and the record is not to be used."""

from __future__ import annotations

from functools import partial

from dpd.sequence.document import SequenceRefused, tell
from dpd.sequence.records import SequenceError
from dpd.sequence.reference import MAX_VERSION, check_sequence_name
from dpd.site.declaration_tables import Table, shown, unchanged
from dpd.site.model_checks import (
    MAX_DESCRIPTION,
    MAX_PRIORITY,
    normal_membership_rule,
    normal_network,
    normal_point,
)
from dpd.site.records import (
    ALL_COMPUTERS,
    COLLECTION_TARGET,
    UNKNOWN_COMPUTERS,
    ApprovalRule,
    Audience,
    Boundary,
    Collection,
    Computer,
    Deployment,
    MemberKind,
    MembershipRule,
    Point,
    Purpose,
    Rerun,
    RuleKind,
    SiteError,
    Variable,
    check_name,
    normal_guid,
    normal_mac_prefix,
    normal_rule_value,
)
from dpd.site.sequences import SequenceVersion, read_checked, version_of
from dpd.site.variables import check_sequence, check_variable_name, check_variable_value

MAX_IMAGE_CHARACTERS = 64


def read_computer(table: Table) -> Computer:
    name = table.text("name", check_name, default=None)
    macs = table.texts("macs", partial(normal_mac_prefix, whole=True))
    guid = table.text("guid", lambda text: normal_guid(text) if text else "")
    image = table.text("boot_image", _image)
    if table.is_sound and not macs and not guid:
        table.wrong((), "expected macs or a guid to know the computer by")
    return Computer(name, macs, guid, image)


def read_collection(table: Table) -> Collection:
    return Collection(
        table.text("name", check_name, default=None),
        table.texts("computers", check_name),
        tuple(dict.fromkeys(map(_membership_rule, table.tables("rules")))),
        table.texts("include", check_name),
        table.texts("exclude", check_name),
        table.text("description", _description),
    )


def _membership_rule(table: Table) -> MembershipRule:
    kind = table.choice("kind", MemberKind, None)
    known_kind = table.is_sound
    value = table.text(
        "value",
        lambda text: normal_membership_rule(MembershipRule(kind, text)).value if known_kind else text,
        default=None,
    )
    table.finish()
    return MembershipRule(kind, value)


def read_deployment(table: Table) -> Deployment:
    deployment = Deployment(
        0,
        table.text("target", _target, default=None),
        table.text("boot_image", _image),
        table.choice("purpose", Purpose, None),
        table.whole("priority", -MAX_PRIORITY, MAX_PRIORITY),
        table.moment("available_from"),
        table.moment("expires_at"),
        name=table.text("name", _deployment_name),
        audience=table.choice("audience", Audience, Audience.ALL),
        rerun=table.choice("rerun", Rerun, Rerun.NEVER),
        sequence=table.text("sequence", check_sequence),
    )
    if table.is_sound and 0 < deployment.expires_at <= deployment.available_from:
        table.wrong(("expires_at",), "expected a moment after available_from")
    return deployment


def read_boundary(table: Table) -> Boundary:
    network = table.text("network", normal_network, default=None)
    boundary = Boundary(network, table.texts("points", check_name), table.text("description", _description))
    if table.is_sound and not boundary.points:
        table.wrong((), "expected at least one distribution point in points, the best first")
    return boundary


def read_point(table: Table) -> Point:
    name = table.text("name", check_name, default=None)
    url = table.text("url")
    point = Point(name, table.texts("groups", check_name), url, table.text("description", _description))
    try:
        return normal_point(point) if table.is_sound else point
    except SiteError as error:
        table.wrong(("url",) if ": url: " in str(error) else (), str(error))
        return point


def read_rule(table: Table) -> ApprovalRule:
    kind = table.choice("kind", RuleKind, None)
    value = table.text("value", partial(normal_rule_value, kind) if table.is_sound else unchanged, default=None)
    return ApprovalRule(0, kind, value)


def read_variable(table: Table) -> Variable:
    """A secret one without a value keeps the value that it has."""
    target, name = table.text("target", _target, default=None), table.text("name", check_variable_name, default=None)
    is_secret = table.flag("secret")
    value = table.text("value", partial(check_variable_value, name), default="" if is_secret else None)
    return Variable(target, name, value, is_secret)


def read_sequence(table: Table) -> SequenceVersion:
    """Without a version, 0: the newest of its name. Each problem of the text is told with its line in it."""
    name, version = table.text("name", _sequence_name, default=None), table.whole("version", 0, MAX_VERSION)
    text = table.text("text", default=None)
    if text:
        try:
            sequence = read_checked(text, None)
            if sequence.name == name:
                return version_of(sequence, version, text)
            table.wrong(("text",), f"is of task sequence {sequence.name}; expected the name of the table")
        except SequenceRefused as error:
            for problem in error.problems:
                table.wrong(("text",), tell(problem))
    return SequenceVersion(name, version, "", 0, 0.0, "", text)


def _sequence_name(text: str) -> str:
    try:
        return check_sequence_name(text)
    except SequenceError as error:
        raise SiteError(str(error)) from None


def _member_value(kind: MemberKind, text: str) -> str:
    return normal_membership_rule(MembershipRule(kind, text)).value


def _image(text: str) -> str:
    if len(text) > MAX_IMAGE_CHARACTERS:
        raise SiteError(f"{shown(text)}: expected the id of a boot image, of at most {MAX_IMAGE_CHARACTERS} characters")
    return text


def _description(text: str) -> str:
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        raise SiteError(f"{shown(text)}: expected one line of at most {MAX_DESCRIPTION} characters")
    return text.strip()


def _deployment_name(text: str) -> str:
    """Nothing else is called by it, so that "all" is a name too."""
    return text if text.lower() in ("", ALL_COMPUTERS, UNKNOWN_COMPUTERS) else check_name(text)


def _target(text: str) -> str:
    if text.lower() in (ALL_COMPUTERS, UNKNOWN_COMPUTERS):
        return text.lower()
    is_collection = text.lower().startswith(COLLECTION_TARGET)
    try:
        name = check_name(text[len(COLLECTION_TARGET) :] if is_collection else text)
    except SiteError:
        raise SiteError(
            f'{shown(text)}: expected a computer\'s name, "{COLLECTION_TARGET}NAME", "all" or "unknown"'
        ) from None
    return COLLECTION_TARGET + name if is_collection else name
