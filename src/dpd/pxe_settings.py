# SPDX-License-Identifier: Apache-2.0
"""The settings of network boot: the table [pxe] and the tables in it."""

from __future__ import annotations

from dataclasses import dataclass

from dpd import setting_rules as rules

RULE_CLASSES = ("PXEClient", "HTTPClient", "iPXE")


@dataclass(frozen=True, slots=True)
class PxeRule:
    """[[pxe.rule]]: the first rule whose class and architecture fit gives the client its loader.

    `loader` is a boot file name below [boot] directory, or for HTTPClient (and iPXE, if wished) a URL in which {server},
    {http_port} and {https_port} are filled in. `flow` replaces the form of the answer that the client's profile has.
    """

    name: str = rules.text("", "a non-empty text", lambda v: v != "")
    client_class: str = rules.choice("PXEClient", *RULE_CLASSES)
    client_arch: tuple[int, ...] = rules.key(
        (),
        "a list of option 93 codes, 0 to 65535; empty fits every one",
        lambda v: all(0 <= code <= 65535 for code in v),
    )
    loader: str = rules.text(
        "", "a boot file name or URL of 1 to 127 ASCII characters", lambda v: v.isascii() and 0 < len(v) < 128
    )
    flow: str = rules.choice("", "", "direct", "binl", "bare")


DEFAULT_RULES = (
    PxeRule(name="ipxe", client_class="iPXE", client_arch=(), loader="boot.ipxe"),
    PxeRule(
        name="uefi-x64-http",
        client_class="HTTPClient",
        client_arch=(16,),
        loader="http://{server}:{http_port}/boot/ipxe.efi",
    ),
    PxeRule(
        name="uefi-arm64-http",
        client_class="HTTPClient",
        client_arch=(19,),
        loader="http://{server}:{http_port}/boot/ipxe-arm64.efi",
    ),
    PxeRule(name="uefi-x64", client_class="PXEClient", client_arch=(7, 9), loader="ipxe.efi"),
    PxeRule(name="uefi-arm64", client_class="PXEClient", client_arch=(11,), loader="ipxe-arm64.efi"),
    PxeRule(name="bios", client_class="PXEClient", client_arch=(0,), loader="undionly.kpxe"),
)


@dataclass(frozen=True, slots=True)
class PxeSubnet:
    """[[pxe.subnet]]: what differs for the machines of one network, IPv4 or IPv6; the longest prefix that fits counts.

    Empty texts and zeros mean: as without this table.
    """

    network: str = rules.text("", "a network such as 10.1.0.0/16 or fd00:1::/64", rules.is_network)
    server_address: str = rules.text("", '"" or an IP address', lambda v: v == "" or rules.is_address(v))
    response_delay_s: int = rules.number(0, 0, 32, "seconds; 0 means as pxe.response_delay_s")
    unknown_computers: str = rules.choice("", "", "allow", "deny", "pending")
    max_blksize: int = rules.number(0, 0, 65464, "bytes of a TFTP block; 0 means as tftp.max_blksize")
    ramdisk_block_size: int = rules.number(0, 0, 65464, "bytes; 0 means as boot.ramdisk_block_size")
    ramdisk_window_size: int = rules.number(0, 0, 64, "blocks; 0 means as boot.ramdisk_window_size")


@dataclass(frozen=True, slots=True)
class PxeSettings:
    """[pxe]: the proxyDHCP answers on ports 67 and 4011, and on 547 for IPv6."""

    enabled: bool = rules.flag(True, live=False)
    respond: bool = rules.flag(True)
    mode: str = rules.choice("normal", "normal", "boot_port_only", "sniff", live=False)
    listen: str = rules.text("0.0.0.0", "an IPv4 address", rules.is_ipv4, live=False)
    port: int = rules.number(67, 0, 65535, "UDP port", live=False)
    boot_port: int = rules.number(4011, 0, 65535, "UDP port", live=False)
    client_port: int = rules.number(68, 1, 65535, "UDP port of the clients")
    interfaces: tuple[str, ...] = rules.key((), "a list of interface names; empty means every one", lambda v: all(v))
    server_address: str = rules.text(
        "", '"" (the address of the interface asked) or an IPv4 address', lambda v: v == "" or rules.is_ipv4(v)
    )
    response_delay_s: int = rules.number(0, 0, 32, "seconds the client must have been asking; iPXE is exempt")
    ipv6: bool = rules.flag(False, live=False)
    port6: int = rules.number(547, 0, 65535, "UDP port of DHCPv6 servers", live=False)
    unknown_computers: str = rules.choice("allow", "allow", "deny", "pending")
    pin_file: str = rules.optional_path("a file with the PIN that unknown machines are asked for")
    ticket_lifetime_s: int = rules.number(3600, 10, 86400, "seconds that a boot may take")
    max_required_boots_per_hour: int = rules.number(0, 0, 1000000, "required boots in an hour; 0 means no brake")
    ignore_macs: tuple[str, ...] = rules.key(
        (), "a list of addresses such as aa:bb:cc:dd:ee:ff", lambda v: all(map(rules.is_mac, v))
    )
    ignore_macs_file: str = rules.optional_path("a file with one address in each line")
    duplicate_ids: tuple[str, ...] = rules.key(
        (),
        "a list of addresses and GUIDs that several machines share",
        lambda v: all(rules.is_mac(each) or rules.is_guid(each) for each in v),
    )
    subnet: tuple[PxeSubnet, ...] = rules.key((), "an array of tables", lambda _: True)
    rule: tuple[PxeRule, ...] = rules.key(DEFAULT_RULES, "an array of tables", lambda _: True)
