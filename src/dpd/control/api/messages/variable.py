# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about variables of computers and collections, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dpd.control.api.messages.message import Request
from dpd.control.api.messages.site import ComputerParameters, Target
from dpd.control.operations.variable import ShownVariable

__all__ = ["ComputerParameters", "VariableList", "VariableParameters", "VariableRequest", "VariablesParameters"]

VariableName = Annotated[
    str, Meta(min_length=1, max_length=256, description="A variable's name, in any case: letters, digits, _ and -")
]


class VariablesParameters(Request):
    """Without a target, every one's."""

    target: Annotated[str, Meta(max_length=75, description="As in a deployment")] = ""


class VariableParameters(Request):
    target: Target
    variable: VariableName


class VariableRequest(Request):
    """`target` as in a deployment. What is `secret` is given to machines over TLS and shown to nobody."""

    target: Target
    name: VariableName
    value: Annotated[str, Meta(max_length=4000)]
    secret: bool = False


class VariableList(Struct):
    variables: list[ShownVariable]
