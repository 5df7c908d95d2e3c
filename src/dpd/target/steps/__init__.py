# SPDX-License-Identifier: Apache-2.0
"""What each kind of step does on the machine: one module each, `run(work)` does it and returns what there is to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from dpd.sequence.records import StepKind
from dpd.target.steps import (
    apply_data_image,
    apply_driver_package,
    apply_os_image,
    capture_image,
    check_readiness,
    download_content,
    install_boot_loader,
    join_multicast,
    partition_disk,
    restart,
    run_command_line,
    run_script,
    set_variable,
    write_configuration,
)
from dpd.target.work import Work

STEPS: Final[Mapping[StepKind, Callable[[Work], str]]] = MappingProxyType(
    {
        StepKind.PARTITION_DISK: partition_disk.run,
        StepKind.DOWNLOAD_CONTENT: download_content.run,
        StepKind.JOIN_MULTICAST: join_multicast.run,
        StepKind.APPLY_OS_IMAGE: apply_os_image.run,
        StepKind.APPLY_DATA_IMAGE: apply_data_image.run,
        StepKind.APPLY_DRIVER_PACKAGE: apply_driver_package.run,
        StepKind.SET_VARIABLE: set_variable.run,
        StepKind.RUN_COMMAND_LINE: run_command_line.run,
        StepKind.RUN_SCRIPT: run_script.run,
        StepKind.WRITE_CONFIGURATION: write_configuration.run,
        StepKind.INSTALL_BOOT_LOADER: install_boot_loader.run,
        StepKind.CAPTURE_IMAGE: capture_image.run,
        StepKind.CHECK_READINESS: check_readiness.run,
        StepKind.RESTART: restart.run,
    }
)
