# SPDX-License-Identifier: Apache-2.0
"""Sites of every shape, in the form in which the store keeps them."""

from __future__ import annotations

from hypothesis import strategies as st

from dpd.site.model import SiteModel
from dpd.site.model_checks import normal_model
from dpd.site.records import (
    AffinityMode,
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
    Variable,
)
from dpd.site.sequences import SequenceVersion, read_checked, version_of

_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True).filter(
    lambda n: n.lower() not in ("all", "unknown")
)
_POINT_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,5}", fullmatch=True)
_BYTES = st.integers(0, 255).map("{:02x}".format)
_MACS = st.lists(_BYTES, min_size=6, max_size=6).map(":".join)
_PREFIXES = st.lists(_BYTES, min_size=1, max_size=6).map(":".join)
_GUIDS = st.uuids().map(str)
_IMAGES = st.sampled_from(["", "LAB00005"]) | st.text(st.characters(codec="utf-8"), max_size=8).map(str.strip)
_LINES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=' "\\#'), max_size=20)
_MOMENTS = st.just(0.0) | st.integers(1, 2**39).map(float) | st.floats(1e-3, 2.0**39)
_NETWORKS = st.ip_addresses(network="10.0.0.0/8").map(lambda a: f"{a}/32") | st.sampled_from(
    ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "fd00:1::/64", "0.0.0.0/0"]
)
_STEP = '[[step]]\nname = "Restart"\ndo = "restart"\n'


def _published(name: str, version: int) -> SequenceVersion:
    """The same text under the same number in each site, and none that TOML would change."""
    tail = ("", "# ''' and \"\"\"\n", "# it's")[version % 3]
    text = f'name = "{name}"\n# {version} \\\n{_STEP}{tail}'
    return version_of(read_checked(text, None), version, text, 5.0 + version, "anna")


_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_PATTERNS = st.sampled_from(["LAB-*", "?", "[a-c]*", "ünï*"])


def _members() -> st.SearchStrategy[MembershipRule]:
    return (
        st.builds(MembershipRule, st.just(MemberKind.NAME), _PATTERNS)
        | st.builds(MembershipRule, st.just(MemberKind.MAC_PREFIX), _PREFIXES)
        | st.builds(MembershipRule, st.just(MemberKind.GUID), st.just("4c4c*"))
    )


def _rules() -> st.SearchStrategy[tuple[RuleKind, str]]:
    return (
        st.tuples(st.just(RuleKind.MAC_PREFIX), _PREFIXES)
        | st.tuples(st.just(RuleKind.NETWORK), _NETWORKS)
        | st.tuples(st.just(RuleKind.CIRCUIT), st.lists(_BYTES, min_size=1, max_size=4).map("".join))
    )


def _some_of(names: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=4).map(tuple) if names else st.just(())


@st.composite
def site_models(draw: st.DrawFn) -> SiteModel:
    """A whole site that the store would take, with everything numbered and dated."""
    added = st.floats(1.0, 2e9)
    names = draw(st.lists(_NAMES, unique_by=str.lower, max_size=5))
    macs = draw(st.lists(_MACS, unique=True, min_size=len(names) * 2, max_size=len(names) * 2))
    computers = [
        Computer(
            name, tuple(macs[place * 2 : place * 2 + draw(st.integers(0, 2))]), draw(_GUIDS), draw(_IMAGES), draw(added)
        )
        for place, name in enumerate(names)
    ]
    collections: list[Collection] = []
    for name in draw(st.lists(_NAMES, unique_by=str.lower, max_size=4)):
        others = draw(_some_of([each.name for each in collections]))
        at = draw(st.integers(0, len(others)))
        rules = tuple(draw(st.lists(_members(), unique=True, max_size=3)))
        collections.append(
            Collection(name, draw(_some_of(names)), rules, others[:at], others[at:], draw(_LINES), draw(added))
        )
    targets = ["all", "unknown", *names, *(f"collection:{each.name}" for each in collections)]
    sequences = [
        _published(name, version) for name in ("debian", "win-11") for version in range(1, draw(st.integers(1, 4)))
    ]
    references = ["", *(each.name for each in sequences), *(each.reference for each in sequences)]
    deployments = []
    for id, name in enumerate(
        draw(st.lists(st.just("") | _NAMES, max_size=5, unique_by=lambda n: n.lower() or object())), 3
    ):
        start = draw(_MOMENTS)
        end = draw(st.just(0.0) | st.floats(start, 2.0**40, exclude_min=True))
        words = draw(st.sampled_from(Purpose)), draw(st.integers(-1000, 1000))
        deployments.append(
            Deployment(id, draw(st.sampled_from(targets)), draw(_IMAGES), *words, start, end, draw(added), name, draw(st.sampled_from(Audience)), draw(st.sampled_from(Rerun)), draw(st.sampled_from(references)))
        )  # fmt: skip
    points = [
        Point(name, draw(st.lists(_POINT_NAMES, unique=True, max_size=3).map(tuple)), draw(st.sampled_from(["", "http://b1.example:8080"])), draw(_LINES))
        for name in draw(st.lists(_POINT_NAMES, unique_by=str.lower, max_size=3))
    ]  # fmt: skip
    networks = draw(st.lists(_NETWORKS, unique=True, max_size=3)) if points else []
    boundaries = [
        Boundary(network, draw(_some_of([each.name for each in points])) or (points[0].name,), draw(_LINES))
        for network in networks
    ]
    rules_of_approval = [
        ApprovalRule(id, kind, value, draw(added))
        for id, (kind, value) in enumerate(draw(st.lists(_rules(), unique=True, max_size=3)), 2)
    ]
    variables = [
        Variable(target, name, draw(_VALUES))
        for target, name in draw(
            st.lists(
                st.tuples(st.sampled_from(targets), st.sampled_from(["Zone", "OSD-Name", "x_1"])),
                unique=True,
                max_size=4,
            )
        )
    ]
    return normal_model(
        SiteModel(
            tuple(computers),
            tuple(collections),
            tuple(deployments),
            tuple(boundaries),
            tuple(points),
            tuple(rules_of_approval),
            draw(_LINES),
            draw(st.sampled_from(AffinityMode)),
            tuple(variables),
            tuple(sequences),
        )
    )
