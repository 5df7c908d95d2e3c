# SPDX-License-Identifier: Apache-2.0
"""The lines with which a lease server alone leads machines to their loaders, for the servers that people have."""

from __future__ import annotations

from collections.abc import Mapping

from dpd.explain.lease_server_choices import choices4, choices6
from dpd.explain.lease_servers4 import dnsmasq4, isc4, kea4, windows4
from dpd.explain.lease_servers6 import dnsmasq6, isc6, kea6, windows6


def lease_server_options(
    server4: str, server6: str, loaders: Mapping[str, str], http_port: int = 8080
) -> dict[str, str]:
    """Texts ready to paste, by "dnsmasq4", "kea6" and so on; an empty address leaves its family out.

    `loaders`: what each architecture, by its name in `ARCH_NAMES`, and "ipxe" is to load: a name that dpd serves, or a URL.
    """
    texts: dict[str, str] = {}
    if server4:
        four = choices4(server4, loaders, http_port)
        texts["dnsmasq4"] = dnsmasq4(four, server4)
        texts["kea4"] = kea4(four, server4)
        texts["isc4"] = isc4(four, server4)
        texts["windows4"] = windows4(four, server4)
    if server6:
        six = choices6(server6, loaders, http_port)
        texts["dnsmasq6"] = dnsmasq6(six)
        texts["kea6"] = kea6(six)
        texts["isc6"] = isc6(six)
        texts["windows6"] = windows6(six)
    return texts
