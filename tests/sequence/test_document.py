# SPDX-License-Identifier: Apache-2.0
"""Documents, and what is told of those that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.sequence.document import MAX_DOCUMENT_BYTES, SequenceRefused, read_document, tell
from dpd.sequence.records import Group, SequenceProblem, StepKind

TEXT = """\
name = "debian"

[variables]
OSDComputerName = "PC-%_DPDSerial%"

[[step]]
name = "Partition"
do = "partition_disk"
partitions = [
  { name = "esp", size = "512MiB", kind = "esp", format = "fat32" },
  { name = "root", size = "rest", format = "ext4" },
]

[[step]]
name = "Image"
condition = { hardware = "ram_bytes", at_least = "512MiB" }
continue_on_error = true

  [[step.step]]
  name = "Receive"
  do = "join_multicast"
  package = "LAB00001"
  retries = 2
  time_limit_s = 3600

  [[step.step]]
  name = "Apply"
  do = "apply_os_image"
  package = "LAB00001"
  volume = "root"

[[step]]
name = "Restart"
do = "restart"
"""


def problems_of(text: str) -> list[str]:
    return [tell(each) for each in read_document(text).problems]


def test_a_document_is_its_groups_and_steps_in_their_order() -> None:
    document = read_document(TEXT)
    assert document.problems == ()
    assert document.sequence is not None
    found = [(each.id, each.name, each.line) for each in document.sequence.walk()]
    assert found == [
        ("1", "Partition", 6),
        ("2", "Image", 14),
        ("2.1", "Receive", 19),
        ("2.2", "Apply", 26),
        ("3", "Restart", 32),
    ]
    image = document.sequence.members[1]
    assert isinstance(image, Group)
    assert image.continue_on_error
    receive = document.sequence.steps()[1]
    assert (receive.kind, receive.retries, receive.time_limit_s) == (StepKind.JOIN_MULTICAST, 2, 3600)
    assert receive.text("package") == "LAB00001"
    assert receive.whole("patience_s") == 600
    assert document.sequence.variables == (("OSDComputerName", "PC-%_DPDSerial%"),)


def test_everything_that_is_wrong_is_told_with_its_line() -> None:
    wrong = TEXT.replace('size = "rest"', 'size = "all"').replace("retries", "tries").replace('"restart"', '"reboot"')
    told = problems_of(wrong)
    assert [each.split(":")[0] for each in told] == ["line 11", "line 23", "line 34"]
    assert told[0].startswith("line 11: step 1 (Partition): partitions 2: size: size 'all': expected such as")
    assert "step 2.1 (Receive): tries: unknown key" in told[1]
    assert 'step 3 (Restart): do: "reboot": expected one of' in told[2]


@pytest.mark.parametrize("text", ["name: debian\n", "---\nname: x\n", "# a\n\n- name: x\n", "steps:\n  - do: x\n"])
def test_yaml_is_not_taken_and_told_so(text: str) -> None:
    (told,) = problems_of(text)
    assert "this looks like YAML, which is not taken; expected TOML" in told


def test_no_toml_is_told_with_its_line() -> None:
    (told,) = problems_of('name = "x"\n[[step]\n')
    assert told.startswith("line 2: not TOML: ")


def test_a_large_document_is_refused() -> None:
    (told,) = problems_of("#" + "ü" * (MAX_DOCUMENT_BYTES // 2))
    assert "1048577 bytes, expected at most 1048576" in told


def test_a_refusal_tells_the_first_twenty() -> None:
    refused = SequenceRefused([SequenceProblem(line, "step 1: name", "wrong") for line in range(1, 26)])
    assert str(refused).startswith("nothing was published: line 1: step 1: name: wrong; line 2: ")
    assert str(refused).endswith("; and 5 more")
    assert len(refused.problems) == 25


@given(st.text() | st.text(alphabet='[]{}=".\n #astep0', max_size=200))
def test_any_text_is_a_sequence_or_has_problems(text: str) -> None:
    document = read_document(text)
    assert (document.sequence is None) == bool(document.problems)
