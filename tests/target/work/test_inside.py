# SPDX-License-Identifier: Apache-2.0
"""The environment of an operator's programs."""

from __future__ import annotations

from pathlib import Path

from tests.target.stage import Stage

from dpd.target.work.inside import PATH, environment


def test_variables_are_there_by_name_but_none_that_breaks_the_shell(tmp_path: Path) -> None:
    names = {"Room": "12", "OSD-Name": "x", "PATH": "/nowhere", "LD_PRELOAD": "/x.so", "ENV": "/x", "_own": "y"}
    told = environment(Stage(tmp_path, variables=names, secrets={"Password": "s3cret"}).work('do = "restart"'))
    assert {name: told[name] for name in ("Room", "OSD_Name", "_own", "Password", "PATH")} == {
        "Room": "12",
        "OSD_Name": "x",
        "_own": "y",
        "Password": "s3cret",
        "PATH": PATH,
    }
    assert not {"LD_PRELOAD", "ENV", "OSD-Name"} & told.keys()
