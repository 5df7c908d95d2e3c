# SPDX-License-Identifier: Apache-2.0
"""A site as one value, over JSON and back."""

from __future__ import annotations

import pytest

from dpd.site.model import SiteModel, decode_model, encode_model
from dpd.site.records import (
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
    SiteError,
    Variable,
)


def test_what_is_said_comes_back_as_it_was() -> None:
    model = SiteModel(
        computers=(Computer("PC-1", ("52:54:00:00:00:01",)),),
        collections=(Collection("lab", ("PC-1",), (MembershipRule(MemberKind.NAME, "LAB-*"),), exclude=("old",)),),
        deployments=(
            Deployment(
                3, "collection:lab", "", Purpose.REQUIRED, name="win", audience=Audience.HIDDEN, rerun=Rerun.ALWAYS
            ),
        ),
        boundaries=(Boundary("10.1.0.0/16", ("branch", "hq")),),
        points=(Point("branch", ("north",)),),
        maintenance="move",
    )
    assert decode_model(encode_model(model)) == model


@pytest.mark.parametrize("text", [b"", b"[]", b'{"computers": [{"name": 1}]}', b"\xff"])
def test_what_is_no_model_is_refused(text: bytes) -> None:
    with pytest.raises(SiteError, match="site model"):
        decode_model(text)


def test_variables_go_to_points_with_what_is_secret_and_a_site_of_before_has_none() -> None:
    secret = Variable("PC-1", "Pass", "hunter2", secret=True)
    model = SiteModel(
        deployments=(Deployment(3, "all", "", Purpose.REQUIRED, sequence="debian@3"),), variables=(secret,)
    )
    assert decode_model(encode_model(model)) == model
    before = b'{"deployments": [{"id": 3, "target": "all", "boot_image": "", "purpose": "required"}]}'
    assert decode_model(before) == SiteModel(deployments=(Deployment(3, "all", "", Purpose.REQUIRED),))
