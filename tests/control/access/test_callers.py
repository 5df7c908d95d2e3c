# SPDX-License-Identifier: Apache-2.0
"""Roles and callers."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from dpd.control.access.callers import CALLER, Caller, Role, RoleMissing, caller_of, require


def asked_by(role: Role) -> web.Request:
    request = make_mocked_request("DELETE", "/v1/roots/1")
    request[CALLER] = Caller("bea", role, "tcp")
    return request


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_may_do_what_lower_ones_may_and_no_more(role: Role, needed: Role) -> None:
    order = ["viewer", "operator", "admin"]
    assert role.covers(needed) == (order.index(role) >= order.index(needed))


def test_who_may_is_let_through() -> None:
    require(asked_by(Role.ADMIN), Role.OPERATOR)
    assert caller_of(asked_by(Role.VIEWER)).name == "bea"


def test_who_may_not_is_told_what_it_takes() -> None:
    with pytest.raises(RoleMissing) as caught:
        require(asked_by(Role.OPERATOR), Role.ADMIN)
    assert str(caught.value) == (
        "DELETE /v1/roots/1: needs the role admin, and bea is operator; ask as somebody who is admin"
    )
