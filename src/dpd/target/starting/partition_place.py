# SPDX-License-Identifier: Apache-2.0
"""How a partition is called by those who start from it: the identities of disk and partition, and where it begins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from dpd.target.disks.block_device import partition_device
from dpd.target.work.program import Programs
from dpd.target.work.state import Volume
from dpd.target.work.step_failure import StepFailed


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """`disk_id` and `partition_id` as the table has them: GUIDs of a GPT; an MBR's signature, and no identity of its own.
    `first_start_bytes`: where the disk's first partition begins."""

    is_gpt: bool
    disk_id: str
    partition_id: str
    start_bytes: int
    first_start_bytes: int

    @property
    def guids(self) -> tuple[UUID, UUID]:
        return UUID(self.disk_id), UUID(self.partition_id)

    @property
    def signature(self) -> int:
        return int(self.disk_id, 16)


def partition_place(programs: Programs, volume: Volume) -> PartitionPlace:
    """As the table on the disk says. Raises StepFailed, ProgramFailed."""
    table = json.loads("".join(programs.run("sfdisk", "--json", volume.disk).lines))["partitiontable"]
    sector_bytes = int(table.get("sectorsize", 512))
    device = partition_device(volume.disk, volume.number)
    partitions = table.get("partitions", [])
    found = next((each for each in partitions if each["node"] == device), None)
    if found is None or table["label"] not in ("gpt", "dos"):
        raise StepFailed(f"volume {volume.name!r}: the table of {volume.disk} has no partition {device}")
    return PartitionPlace(
        is_gpt=table["label"] == "gpt",
        disk_id=str(table["id"]),
        partition_id=str(found.get("uuid", "")),
        start_bytes=int(found["start"]) * sector_bytes,
        first_start_bytes=min(int(each["start"]) for each in partitions) * sector_bytes,
    )
