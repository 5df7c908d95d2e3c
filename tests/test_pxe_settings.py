# SPDX-License-Identifier: Apache-2.0
"""The settings of network boot."""

from __future__ import annotations

import pytest

from dpd.errors import SettingsError
from dpd.settings import parse_settings


def test_a_network_takes_what_it_does_not_say_from_elsewhere() -> None:
    text = '[[pxe.subnet]]\nnetwork = "10.1.0.0/16"\nmax_blksize = 1200\n'
    (subnet,) = parse_settings(text, "dpd.toml").pxe.subnet
    assert (subnet.network, subnet.max_blksize) == ("10.1.0.0/16", 1200)
    assert (subnet.server_address, subnet.unknown_computers, subnet.response_delay_s) == ("", "", 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[pxe.subnet]]\n", "pxe.subnet[0].network is missing: expected a network such as"),
        ('[[pxe.subnet]]\nnetwork = "10.1.0.1/16"', "expected a network such as 10.1.0.0/16 or fd00:1::/64"),
        ('[pxe]\nignore_macs = ["nonsense"]', "expected a list of addresses such as aa:bb:cc:dd:ee:ff"),
        ('[pxe]\nduplicate_ids = ["42"]', "expected a list of addresses and GUIDs"),
        ('[pxe]\nunknown_computers = "perhaps"', 'expected one of "allow", "deny", "pending"'),
        ('[pxe]\nmode = "promiscuous"', 'expected one of "normal", "boot_port_only", "sniff"'),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "dpd.toml")
    assert message in str(caught.value)
