# SPDX-License-Identifier: Apache-2.0
"""Policy, boot images and networks follow the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dpd.boot.boot_images import BootImageStore
from dpd.bus_settings import SiteSettings
from dpd.service.boot_desk import BootDesk, target_url
from dpd.settings import BootSettings, HttpSettings, PxeSettings, PxeSubnet, Settings
from dpd.site.decision import BootRequest, Outcome
from dpd.site.model import SiteModel
from dpd.site.policy import BootPolicy
from dpd.site.records import AffinityMode, Deployment, Purpose
from dpd.site.tickets import BootTicket

NARROW = PxeSubnet(network="10.1.0.0/16", ramdisk_block_size=1024, ramdisk_window_size=2)
SETTINGS = Settings(
    pxe=PxeSettings(subnet=(NARROW,)), boot=BootSettings(ramdisk_block_size=8192, ramdisk_window_size=16)
)
REQUEST = BootRequest("52:54:00:00:00:01", "", "uefi-x64", "PXEClient", "10.0.0.1", at=1.0)


@pytest.fixture
def policy() -> BootPolicy:
    return BootPolicy(SETTINGS, clock=lambda: 1.0)


@pytest.fixture
def desk(tmp_path: Path, policy: BootPolicy) -> BootDesk:
    return BootDesk(SETTINGS, policy, BootImageStore(tmp_path / "images"))


@pytest.fixture
def ticket(policy: BootPolicy) -> BootTicket:
    return policy.issue(REQUEST, policy.decide(REQUEST))


def test_a_network_has_its_own_ramdisk_sizes(desk: BootDesk, ticket: BootTicket) -> None:
    context = desk.context(ticket, "10.1.2.3")
    assert (context.ramdisk_block_size, context.ramdisk_window_size) == (1024, 2)
    context = desk.context(ticket, "10.2.2.3")
    assert (context.ramdisk_block_size, context.ramdisk_window_size) == (8192, 16)


def test_the_context_is_that_of_the_ticket(desk: BootDesk, ticket: BootTicket) -> None:
    context = desk.context(ticket, "10.2.2.3")
    assert (context.ticket_id, context.mac, context.arch, context.server) == (
        ticket.id,
        REQUEST.mac,
        REQUEST.arch,
        REQUEST.server,
    )


def test_a_booted_machine_is_told_the_affinity_mode_of_settings_or_site(
    desk: BootDesk, ticket: BootTicket, policy: BootPolicy
) -> None:
    assert desk.context(ticket, "10.2.2.3").boot_variables == ()
    desk.apply(replace(SETTINGS, site=SiteSettings(affinity_mode="pending")))
    assert desk.context(ticket, "10.2.2.3").boot_variables == ("dpd.affinity=pending",)
    policy.store.mirror("hq", 1, SiteModel(affinity_mode=AffinityMode.AUTO), 1.0)
    assert desk.context(ticket, "10.2.2.3").boot_variables == ("dpd.affinity=auto",)


@pytest.mark.parametrize(
    ("http", "server", "url"),
    [
        (HttpSettings(), "10.0.0.1", "http://10.0.0.1:8080"),
        (HttpSettings(port=80), "fd00::1", "http://[fd00::1]:80"),
        (HttpSettings(certificate="/c.pem", tls_port=443), "10.0.0.1", "https://10.0.0.1:443"),
        (HttpSettings(certificate="/c.pem", tls_name="dp.example"), "fd00::1", "https://dp.example:8443"),
    ],
)
def test_machines_talk_over_tls_where_there_is_a_certificate(http: HttpSettings, server: str, url: str) -> None:
    assert target_url(http, server) == url


def test_only_a_machine_with_a_sequence_to_take_is_told_where_and_gets_its_proof(
    desk: BootDesk, policy: BootPolicy, ticket: BootTicket
) -> None:
    assert desk.context(ticket, "10.2.2.3").boot_variables == ()
    policy.store.add_deployment(Deployment(0, "unknown", "", Purpose.REQUIRED, sequence="debian"), "test")
    ticket = policy.issue(REQUEST, policy.decide(REQUEST))
    context = desk.context(ticket, "10.2.2.3")
    assert context.boot_variables == ("dpd.server=http://10.0.0.1:8080", f"dpd.proof={ticket.proof}")
    assert ticket.proof not in repr(context)


async def test_a_reload_reaches_policy_images_and_networks(
    tmp_path: Path, policy: BootPolicy, ticket: BootTicket
) -> None:
    images = BootImageStore(tmp_path / "images")
    desk = BootDesk(SETTINGS, policy, images)
    await desk.start()
    assert images.generation == "2011"
    new = replace(
        SETTINGS,
        pxe=PxeSettings(unknown_computers="deny"),
        boot=replace(SETTINGS.boot, loader_generation="2023"),
    )
    desk.apply(new)
    assert policy.decide(REQUEST).outcome is Outcome.SILENT
    assert images.generation == "2023"
    assert desk.context(ticket, "10.1.2.3").ramdisk_block_size == 8192
