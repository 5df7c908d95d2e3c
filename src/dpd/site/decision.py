# SPDX-License-Identifier: Apache-2.0
"""What policy is asked about one network boot, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What the machine is to do."""

    BOOT = "boot"  # at once, nobody presses a key
    PROMPT = "prompt"  # whoever sits there decides: an available deployment
    ABORT = "abort"  # go on with the next boot device
    WAIT = "wait"  # show a code and ask again until somebody has approved it
    SILENT = "silent"  # hear nothing at all


class Cause(StrEnum):
    """Why; a closed set, since counters and stories use it."""

    DEFAULT = "default"  # nothing is known or wanted of this machine: the loader that the rules name
    REQUIRED = "required"
    AVAILABLE = "available"
    NOTHING_DEPLOYED = "nothing_deployed"
    NOT_FOR_PXE = "not_for_pxe"  # every deployment is for running operating systems alone
    ALREADY_RUN = "already_run"  # a required deployment, until somebody clears it
    NOT_YET = "not_yet"  # every deployment starts later
    EXPIRED = "expired"  # every deployment has ended
    UNKNOWN_ALLOWED = "unknown_allowed"
    UNKNOWN_DENIED = "unknown_denied"
    UNKNOWN_PENDING = "unknown_pending"
    PIN_MISSING = "pin_missing"
    BRAKE = "brake"  # more required boots in an hour than max_required_boots_per_hour
    MAINTENANCE = "maintenance"
    IGNORED_MAC = "ignored_mac"
    NO_IMAGE_FOR_ARCH = "no_image_for_arch"


@dataclass(slots=True)
class BootRequest:
    """Who asks, where and when. `mac` lower-case aa:bb:cc:dd:ee:ff; `guid` "" where the firmware has none of its own; `arch`
    a name of `ARCH_NAMES` without "-http"; `server` our address as the machine reaches it; `at` seconds since the epoch."""

    mac: str
    guid: str
    arch: str
    client_class: str
    server: str
    relay: str = ""
    circuit: str = ""  # option 82's circuit id, in hex
    secs: int = 0
    at: float = 0.0


@dataclass(slots=True)
class Decision:
    """The answer. `boot_image` "" means the loader that the rules name; `code` is what a waiting machine shows; `message` is
    for whoever sits at it; `policy_version` counts changes of the policy."""

    outcome: Outcome
    cause: Cause
    computer: str = ""
    deployment: str = ""
    boot_image: str = ""
    code: str = ""
    message: str = ""
    policy_version: int = 0
    asks_pin: bool = False  # a PIN typed at the machine lets it go on

    @property
    def boots(self) -> bool:
        """Whether the machine gets something to run."""
        return self.outcome in (Outcome.BOOT, Outcome.PROMPT, Outcome.WAIT)
