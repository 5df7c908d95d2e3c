# SPDX-License-Identifier: Apache-2.0
"""The settings of a site of many distribution points: the tables [bus], [site] and [console]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dpd import setting_rules as rules

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")  # a token of a NATS subject; no dots

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


def is_name(value: str) -> bool:
    """Whether it may name a site, a point or a domain."""
    return NAME.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class BusSettings:
    """[bus]: the NATS server by which a site steers distribution points. Without a url there is no bus."""

    url: str = rules.text(
        "",
        '"" or a URL such as "nats://hub.example:4222" or "tls://hub.example:4222"',
        lambda v: v == "" or re.fullmatch(r"(nats|tls)://[^\s/@]+", v) is not None,
        live=False,
    )
    site: str = rules.text("site", "1 to 63 of [A-Za-z0-9_-]", is_name, live=False)
    point: str = rules.text(
        "", '"" (the host\'s name) or 1 to 63 of [A-Za-z0-9_-]', lambda v: not v or is_name(v), live=False
    )
    domain: str = rules.text(
        "", '"" or the JetStream domain of the leaf node that url leads to', lambda v: not v or is_name(v), live=False
    )
    hub_domain: str = rules.text(
        "hub", "the JetStream domain of the hub, where domain is set: 1 to 63 of [A-Za-z0-9_-]", is_name, live=False
    )
    credentials_file: str = rules.optional_path("a NATS credentials file (.creds)")
    user: str = rules.text("", '"" or a user of the NATS server', lambda v: not v or v.isprintable(), live=False)
    token_file: str = rules.optional_path("a file with the token of the NATS server, or with the user's password")
    ca_file: str = rules.optional_path("a PEM file with the authority of the server's certificate")
    certificate: str = rules.optional_path("a PEM file")
    private_key: str = rules.optional_path("a PEM file")
    ask_timeout_s: float = rules.number(10.0, 0.1, 600, "seconds to wait for a point's answer")


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """[site]: what a site server, or a distribution point with a policy of its own, is careful about; the domains of leaf nodes
    and the days are the site server's alone."""

    high_risk_computers: int = rules.number(
        100, 0, 1_000_000, "computers that a required deployment may reach without being confirmed; 0 means no limit"
    )
    affinity_mode: str = rules.choice("none", "none", "pending", "auto")
    leaf_domains: tuple[str, ...] = rules.key(
        (), "a list of JetStream domains of leaf nodes", lambda names: all(map(is_name, names))
    )
    keep_events_days: int = rules.number(90, 1, 3650, "days that status messages are kept")


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """[console]: the page to look at."""

    listen: str = rules.endpoint("", "an address for the page")
    names: tuple[str, ...] = rules.key(
        (), "a list of host names without port", lambda names: all(map(_HOST.fullmatch, names)), live=False
    )
    anonymous: bool = rules.flag(True, live=False)
    certificate: str = rules.optional_path("a PEM file")
    private_key: str = rules.optional_path("a PEM file")
