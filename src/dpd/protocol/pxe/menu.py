# SPDX-License-Identifier: Apache-2.0
"""What the firmware's own boot menu can say (PXE 2.1 section 2.3, option 43 tags 8, 9 and 10): "start from the disk after
all", or "press a key to boot from the network".

An item of type 0 is local boot. With it as the first item and no time to choose, EDK2 (PxeBcDiscoverBootFile) leaves with
EFI_ABORTED and iPXE (pxe_menu_boot) with success, and both go on with the next boot device at once. No file is named beside
a menu: with one, the control bit that skips menus would be the only thing firmware looks at.
"""

from __future__ import annotations

from dpd.protocol.dhcp.options import BootItem, BootServer, DiscoveryControl, MenuItem, MenuPrompt, PxeOptions
from dpd.protocol.pxe.exchange import Grant, Outcome, Question
from dpd.protocol.pxe.profiles import Flow
from dpd.protocol.pxe.rules import ClientClass

LOCAL_BOOT = MenuItem(0, "Start from this computer")
NETWORK_BOOT = 0x8000  # vendor types begin here
PROMPT_S = 10
MAX_TEXT = 60  # EDK2 cuts lines at 70; three of these and the rest of option 43 stay below 253 bytes
_ABORT, _PROMPT = Outcome.ABORT, Outcome.PROMPT
NOBODY_ELSE = DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST

# UEFI HTTP boot knows no menus. "404" takes OVMF 2022.11 to its next boot device in seconds, silence in 78 s.
NO_SUCH_FILE = "go-on-with-the-next-boot-device"
LOCAL_BOOT_AT_ONCE = PxeOptions(discovery_control=NOBODY_ELSE, menu=(LOCAL_BOOT,), prompt=MenuPrompt(0, ""))


def has_menus(question: Question) -> bool:
    """Whether this client can be shown a menu. A Raspberry Pi takes one for its file."""
    profile = question.profile
    return profile.flow in (Flow.DIRECT, Flow.BINL) and not profile.menu_text


def menu_for(question: Question, grant: Grant) -> PxeOptions | None:
    """The menu that stands in for a file; None where the client is to get its file.

    iPXE is prompted by its script, which can show more than a line of text.
    """
    if grant.outcome is _ABORT:
        return LOCAL_BOOT_AT_ONCE
    wants_prompt = grant.outcome is _PROMPT and question.machine.client_class is ClientClass.PXE
    if wants_prompt and has_menus(question) and not _chose_network(question.item):
        return _prompt(question.server, grant.message)
    return None


def _chose_network(item: BootItem | None) -> bool:
    return item is not None and item.server_type == NETWORK_BOOT


def _prompt(server: str, message: str) -> PxeOptions:
    """F8 within PROMPT_S shows the two items, anything else starts from the disk. The second item's server is asked at port
    4011 (tag 8), since a broadcast would reach the lease server's host, too."""
    text = "".join(c if " " <= c <= "~" else "?" for c in message)[:MAX_TEXT] or "Network boot"
    return PxeOptions(
        discovery_control=NOBODY_ELSE | DiscoveryControl.LISTED_SERVERS_ONLY,
        boot_servers=(BootServer(NETWORK_BOOT, (server,)),),
        menu=(LOCAL_BOOT, MenuItem(NETWORK_BOOT, text)),
        prompt=MenuPrompt(PROMPT_S, "Press F8 for network boot"),
    )
