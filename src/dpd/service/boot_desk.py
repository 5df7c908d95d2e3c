# SPDX-License-Identifier: Apache-2.0
"""What the listeners of a network boot share, and how it follows the settings: policy, boot images, networks.

It listens to nothing itself, but is started, reloaded and counted like the others.
"""

from __future__ import annotations

from dpd.boot.boot_images import BootImageStore
from dpd.boot.tree import BootContext
from dpd.settings import HttpSettings, Settings
from dpd.site.policy import BootPolicy, PolicyStats
from dpd.site.subnets import Subnets
from dpd.site.tickets import BootTicket


class BootDesk:
    """`context` is for `BootTree`: what the settings say of the machine that has a ticket."""

    name = "policy"

    def __init__(self, settings: Settings, policy: BootPolicy, images: BootImageStore) -> None:
        self.stats: PolicyStats = policy.stats
        self.ports: dict[str, int] = {}
        self._policy = policy
        self._images = images
        self._settings = settings
        self._subnets = Subnets(settings.pxe.subnet)

    async def start(self) -> None:
        """Take up the settings."""
        self._images.generation = self._settings.boot.loader_generation

    async def drain(self) -> None:
        """Nothing runs on."""

    async def stop(self) -> None:
        """Nothing is open: the stores are the daemon's."""

    def apply(self, settings: Settings) -> None:
        """Settings after a reload; a boot under way is judged by the new ones from its next request on."""
        self._settings, self._subnets = settings, Subnets(settings.pxe.subnet)
        self._policy.apply(settings)
        self._images.generation = settings.boot.loader_generation

    def context(self, ticket: BootTicket, address: str) -> BootContext:
        """For whom names are resolved; may be called from any thread."""
        boot, subnet = self._settings.boot, self._subnets.of(address)
        return BootContext(
            ticket_id=ticket.id,
            mac=ticket.mac,
            guid=ticket.guid,
            arch=ticket.arch,
            server=ticket.server,
            http_port=self._settings.http.port,
            outcome=ticket.outcome.value,
            code=ticket.code,
            message=ticket.message,
            ramdisk_block_size=(subnet.ramdisk_block_size if subnet else 0) or boot.ramdisk_block_size,
            ramdisk_window_size=(subnet.ramdisk_window_size if subnet else 0) or boot.ramdisk_window_size,
            asks_pin=ticket.asks_pin,
            affinity_mode=self._policy.store.affinity_mode.value,
            **self._to_sequence(ticket),
        )

    def _to_sequence(self, ticket: BootTicket) -> dict[str, str]:
        """Only a machine for which there is a task sequence is told where to ask for it."""
        if not self._policy.sequences_for(ticket):
            return {}
        return {"target_url": target_url(self._settings.http, ticket.server), "proof": ticket.proof}


def target_url(http: HttpSettings, server: str) -> str:
    """Where machines that booted from `server` talk to us: over TLS where there is a certificate, under its name where that is
    set."""
    host = f"[{server}]" if ":" in server else server
    return f"https://{http.tls_name or host}:{http.tls_port}" if http.certificate else f"http://{host}:{http.port}"
