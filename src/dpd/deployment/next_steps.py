# SPDX-License-Identifier: Apache-2.0
"""The next thing to try, told with what went wrong: by the words of the failure, else by the kind of the step that failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dpd.deployment.execution import Execution, ExecutionState, StepRun, StepState, began_anew
from dpd.sequence.records import StepKind

# The first whose words are in the failure counts.
_BY_WORDS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(words, re.IGNORECASE), sentence)
    for words, sentence in (
        (
            r"no space|disk (is )?full|too small|no room|has room for|not enough (room|space|memory)|bytes are free|need at least",
            "Give the volume more room in partition_disk, or deploy to a machine with a larger disk.",
        ),
        (
            r"architecture|exec format|is for (x64|x86|arm64)",
            "Deploy the image of this machine's architecture; a condition on the step can choose it.",
        ),
        (
            r"signature|signed by|wrong key",
            "Build the boot image anew, so that it knows this distribution point's key.",
        ),
        (
            r"damaged|corrupt|checksum|does not match its (hash|manifest)|integrity",
            "`dpd content verify {package}` tells whether the copy here is whole; then deploy again.",
        ),
        (
            r"not in the library|no version \d|no such package|content_not_found",
            "`dpd content list` shows what is here; `dpd content distribute {package}` brings what is not.",
        ),
        (
            r"unreachable|refused|timed out waiting|no route|name resolution|connection|certificate|is dpd running",
            "Look at the way from the machine to this distribution point: `dpd pxe why {mac}`, then its HTTP ports.",
        ),
        (
            r"the sequence took longer than",
            "Raise the time_limit_s of the sequence itself, or look in the log for what it waited for.",
        ),
        (
            r"time limit|took longer than",
            "Raise the step's time_limit_s, or look in the log for what it waited for.",
        ),
        (
            r"no (such )?(disk|device)|cannot open /dev",
            "Look whether the firmware shows the disk; a controller may need its module in the boot image.",
        ),
        (r"variable", "{variables} tells which variables the machine is given."),
    )
)

_BY_KIND: Final[Mapping[str, str]] = {
    StepKind.PARTITION_DISK: "Compare the step's disk and sizes with what the machine has; its log lists its disks.",
    StepKind.DOWNLOAD_CONTENT: "`dpd content verify {package}` tells whether the content here is whole.",
    StepKind.JOIN_MULTICAST: "`dpd session list` shows the session; `dpd mc-test` tells whether multicast gets through.",
    StepKind.APPLY_OS_IMAGE: "Look in the log for what wimlib said, and whether the volume was formatted before.",
    StepKind.APPLY_DATA_IMAGE: "Look in the log for what wimlib said, and whether the volume was formatted before.",
    StepKind.APPLY_DRIVER_PACKAGE: "Look whether the package has drivers: `dpd content show --files {package}`.",
    StepKind.RUN_COMMAND_LINE: "Run the command by hand where it failed; its exit code may belong into success_codes.",
    StepKind.RUN_SCRIPT: "Run the script by hand where it failed; its exit code may belong into success_codes.",
    StepKind.WRITE_CONFIGURATION: "Look whether the volume was formatted before, and its system applied.",
    StepKind.INSTALL_BOOT_LOADER: "Look whether the machine's firmware (UEFI or BIOS) has its boot partition in partition_disk.",
    StepKind.CAPTURE_IMAGE: "`dpd deploy captures` shows what has arrived; the room for captures is deployment.capture_quota_gib.",
    StepKind.CHECK_READINESS: "The machine is not fit for this sequence; the message tells what it lacks.",
    StepKind.RESTART: "Look at the machine's screen, and at the order in which its firmware starts disk and network.",
}
_SILENT = "Look at the machine's screen; `dpd pxe why {mac}` tells whether it has booted anew."
_ANEW = (
    "`dpd deploy history {who}` shows the run that it began instead; where nobody has restarted it, look at its power."
)
_LOG = "`dpd deploy log {execution}` shows its log."


def next_step_of(execution: Execution) -> str:
    """What to try for one that failed, is lost or silent; "" where nothing is wrong, or it was wanted so."""
    if execution.state is ExecutionState.CANCELLED:
        return ""
    if execution.state is ExecutionState.LOST and execution.error == began_anew(execution):
        return _ANEW.format(who=execution.who)
    if execution.is_silent or execution.state is ExecutionState.LOST:
        return _SILENT.format(mac=execution.mac)
    if not execution.error:
        return ""
    step = _failed_step(execution)
    by_words = next((sentence for words, sentence in _BY_WORDS if words.search(execution.error)), "")
    sentence = by_words or (_BY_KIND.get(step.kind, "") if step is not None else "")
    known = f"`dpd computer variable list {execution.computer}`"
    variables = known if execution.computer else "`dpd collection variable list unknown`"
    filled = sentence.format(mac=execution.mac, package=_package_in(execution.error), variables=variables)
    return f"{filled} {_LOG.format(execution=execution.id)}".strip()


def _failed_step(execution: Execution) -> StepRun | None:
    """The one that the error tells of: a sequence that was allowed to go on is at another meanwhile."""
    failed = [each for each in execution.steps if each.state is StepState.FAILED and each.message in execution.error]
    return failed[-1] if failed else execution.find_step(execution.step)


def _package_in(error: str) -> str:
    """The package that a failure names, or the place for one."""
    found = re.search(r"package '?([A-Za-z0-9][A-Za-z0-9._-]{0,63})|\b([A-Z]{2,8}[0-9]{3,8})\b", error)
    return "PACKAGE" if found is None else (found[1] or found[2])
