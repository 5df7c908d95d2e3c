# SPDX-License-Identifier: Apache-2.0
"""What the new system configures itself by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.target.stage import EXECUTION, Stage

from dpd.target.steps import write_configuration
from dpd.target.work.step_failure import StepFailed

DO = 'do = "write_configuration"\nvolume = "root"\n'


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path, variables={"Name": "PC-1"}, secrets={"Password": 'a<b>&"c"'})
    made.add_folder("root")
    return made


def root(stage: Stage) -> Path:
    return stage.volumes.folder("root")


def test_a_file_gets_its_text_its_mode_and_the_folders_that_it_needs(stage: Stage) -> None:
    write_configuration.run(
        stage.work(DO + 'format = "file"\npath = "/etc/new/hostname"\ntext = "%Name%\\n"\nmode = "0640"')
    )
    place = root(stage) / "etc/new/hostname"
    assert place.read_text() == "PC-1\n"
    assert place.stat().st_mode & 0o777 == 0o640
    assert list(place.parent.iterdir()) == [place]


def test_unattend_takes_whatever_characters_variables_have(stage: Stage) -> None:
    keys = DO + "format = \"unattend\"\ntext = '<unattend><Name>%Name%</Name><P>%Password%</P></unattend>'"
    said = write_configuration.run(stage.work(keys))
    text = (root(stage) / "Windows/Panther/unattend.xml").read_text()
    assert text == "<unattend><Name>PC-1</Name><P>a&lt;b&gt;&amp;&quot;c&quot;</P></unattend>"
    assert said == "Windows/Panther/unattend.xml, 73 bytes"


def test_unattend_that_is_no_xml_is_told_with_its_line(stage: Stage) -> None:
    with pytest.raises(StepFailed, match="is no XML: mismatched tag in line 2"):
        write_configuration.run(stage.work(DO + 'format = "unattend"\ntext = "<a>\\n</b>"'))


def test_cloud_init_gets_a_seed_that_nocloud_takes(stage: Stage) -> None:
    write_configuration.run(stage.work(DO + 'format = "cloud-init"\nuser_data = "#cloud-config\\nhostname: %Name%\\n"'))
    seed = root(stage) / "var/lib/cloud/seed/nocloud"
    assert {each.name: each.read_text() for each in seed.iterdir()} == {
        "user-data": "#cloud-config\nhostname: PC-1\n",
        "meta-data": f"instance-id: dpd-{EXECUTION}\n",
    }
    write_configuration.run(stage.work(DO + 'format = "cloud-init"\nnetwork_config = "version: 2"'))
    assert (seed / "network-config").read_text() == "version: 2"
    assert (seed / "user-data").read_text() == "#cloud-config\n"


def test_preseed_has_its_place(stage: Stage) -> None:
    write_configuration.run(stage.work(DO + 'format = "preseed"\ntext = "d-i x"'))
    assert (root(stage) / "preseed.cfg").read_text() == "d-i x"


@pytest.mark.parametrize("path", ["../outside", "etc/../../outside", "link/outside", "etc/link/x", "link"])
def test_a_path_that_leads_out_of_the_volume_is_refused(stage: Stage, path: str) -> None:
    (root(stage) / "etc").mkdir()
    for link in ("link", "etc/link"):
        (root(stage) / link).symlink_to(stage.home)
    with pytest.raises(StepFailed, match="leads out of its volume"):
        write_configuration.run(stage.work(f'{DO}format = "file"\npath = "{path}"\ntext = "x"'))


@pytest.mark.parametrize(("key", "value", "said"), [("path", "", "path is not set"), ("mode", "rwx", "octal digits")])
def test_what_is_missing_or_wrong_is_told(stage: Stage, key: str, value: str, said: str) -> None:
    step = stage.work(f'{DO}format = "file"\npath = "x"\ntext = "x"').step
    wrong = replace(step, keys={**step.keys, key: value})
    with pytest.raises(StepFailed, match=said):
        write_configuration.run(stage.work(wrong))
