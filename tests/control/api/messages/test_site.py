# SPDX-License-Identifier: Apache-2.0
"""The fields of requests about boot policy: defaults that do the harmless thing, bounds that hold."""

from __future__ import annotations

import msgspec
import pytest

from dpd.control.api.messages.site import AuditParameters, ComputerRequest, DeploymentRequest, ImportParameters
from dpd.site.records import Purpose


def test_a_deployment_is_available_unless_it_is_said_to_be_required() -> None:
    assert msgspec.convert({"target": "all"}, DeploymentRequest).purpose is Purpose.AVAILABLE


def test_an_import_does_something_unless_it_is_said_to_be_dry() -> None:
    assert not msgspec.convert({}, ImportParameters, strict=False).dry_run
    assert msgspec.convert({"dry_run": "true"}, ImportParameters, strict=False).dry_run


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DeploymentRequest, {"target": "all", "priority": 1001}),
        (DeploymentRequest, {"target": "", "priority": 0}),
        (DeploymentRequest, {"target": "all", "expires_at": -1.0}),
        (ComputerRequest, {"name": "PC1", "macs": ["x"] * 65}),
        (ComputerRequest, {"name": "x" * 64}),
        (AuditParameters, {"limit": 0}),
        (AuditParameters, {"last": 5}),
    ],
)
def test_bounds_hold(kind: type[msgspec.Struct], value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, kind)
