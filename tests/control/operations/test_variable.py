# SPDX-License-Identifier: Apache-2.0
"""Variables as they may be asked for: all that is said, and nothing that is secret."""

from __future__ import annotations

import pytest

from dpd.control.operations.variable import ShownVariable, VariableOperations
from dpd.settings import Settings
from dpd.site.policy import BootPolicy
from dpd.site.records import Collection, Computer, SiteNotFound, Variable


@pytest.fixture
def operations() -> VariableOperations:
    policy = BootPolicy(Settings())
    policy.store.add_computer(Computer("PC-1", ("52:54:00:00:00:0a",)), "test")
    policy.store.add_collection(Collection("lab", ("PC-1",)), "test")
    return VariableOperations(policy)


def test_a_secret_goes_in_and_never_out(operations: VariableOperations) -> None:
    shown = operations.set_variable(Variable("pc-1", "Pass", "hunter2", secret=True), "alice")
    assert shown == ShownVariable("PC-1", "Pass", "", True)
    told = [*operations.variables(), *operations.variables("PC-1"), *operations.variables_of("PC-1")]
    assert told == [shown] * 3
    assert operations.remove_variable("PC-1", "pass", "alice") == shown
    assert operations.variables() == []


def test_what_a_computer_begins_with_tells_whose_it_is(operations: VariableOperations) -> None:
    operations.set_variable(Variable("all", "Zone", "a"), "alice")
    operations.set_variable(Variable("collection:LAB", "Zone", "b"), "alice")
    operations.set_variable(Variable("unknown", "Zone", "c"), "alice")
    assert operations.variables_of("pc-1") == [ShownVariable("collection:lab", "Zone", "b", False)]
    assert [each.target for each in operations.variables()] == ["all", "collection:lab", "unknown"]
    assert operations.variables("collection:Lab") == [ShownVariable("collection:lab", "Zone", "b", False)]
    with pytest.raises(SiteNotFound):
        operations.variables_of("PC-2")
