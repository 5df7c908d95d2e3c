# SPDX-License-Identifier: Apache-2.0
"""What goes over the control API about declarations, with the rules that each field is checked by."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from dpd.control.api.messages.message import Request
from dpd.site.declaration import Kind

_KIND = "|".join(Kind)

PolicyVersion = Annotated[
    int, Meta(ge=0, le=2**53 - 1, description="The version of policy that the plan was made of; another one is refused")
]
Confirm = Annotated[
    int, Meta(ge=0, le=2**31, description="How many computers the plan's risks reach, as whoever asks believes")
]
Kinds = Annotated[
    str,
    Meta(
        pattern=rf"^(({_KIND})(,({_KIND}))*)?(?![\s\S])",
        description="Kinds of things with a comma between them; none means all",
    ),
]


class ApplyParameters(Request):
    policy_version: PolicyVersion
    confirm: Confirm | None = None


class ExportParameters(Request):
    kinds: Kinds = ""
