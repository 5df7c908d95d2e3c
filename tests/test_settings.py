# SPDX-License-Identifier: Apache-2.0
"""Settings: each wrong input gives one line that names file, key, value and what is allowed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dpd.errors import SettingsError
from dpd.pxe_settings import DEFAULT_RULES
from dpd.setting_rules import split_endpoint
from dpd.settings import (
    Change,
    HttpSettings,
    Settings,
    TftpSettings,
    compare_settings,
    load_settings,
    parse_settings,
)

WRONG = [
    # no TOML at all
    ("[pxe", "not TOML: Expected ']' at the end of a table declaration (at end of document)"),
    ("[tftp]\nport = 69\nport = 70", "not TOML: Cannot overwrite a value (at end of document)"),
    # unknown names
    ("[tfpt]", "unknown table [tfpt]; allowed: [daemon], [pxe], [boot], [tftp], [http], [multicast], [library], [distribution], [deployment], [control], [console], [bus], [site], [metrics]"),
    ("path = 'x'", "unknown table [path]; allowed: [daemon], [pxe], [boot], [tftp], [http], [multicast], [library], [distribution], [deployment], [control], [console], [bus], [site], [metrics]"),
    ("[http]\nprot = 80", "unknown key http.prot = 80; allowed here: enabled, listen, port, tls_port, certificate, private_key, tls_name, max_connections"),
    ("[[pxe.rule]]\nname = 'a'\nloader = 'b'\narch = 7", "unknown key pxe.rule[0].arch = 7; allowed here: name, client_class, client_arch, loader, flow"),
    # wrong types
    ("pxe = 1", "pxe = 1: expected a table, written [pxe]"),
    ("[[pxe]]\nport = 1", 'pxe = [{"port": 1}]: expected a table, written [pxe]'),
    ("[http]\nport = '80'", 'http.port = "80": expected a whole number from 0 to 65535 (TCP port)'),
    ("[http]\nport = 80.0", "http.port = 80.0: expected a whole number from 0 to 65535 (TCP port)"),
    ("[http]\nport = true", "http.port = true: expected a whole number from 0 to 65535 (TCP port)"),
    ("[http]\nenabled = 1", "http.enabled = 1: expected true or false"),
    ("[http]\nlisten = 0", 'http.listen = 0: expected an IP address such as "0.0.0.0"'),
    ("[tftp]\ntimeout_s = true", "tftp.timeout_s = true: expected a number from 0.2 to 60 (seconds before the first retransmission; adapts to the client afterwards)"),
    ("[pxe]\ninterfaces = 'eth0'", 'pxe.interfaces = "eth0": expected a list of interface names; empty means every one'),
    ("[pxe]\ninterfaces = [0]", "pxe.interfaces[0] = 0: expected a list of interface names; empty means every one"),
    ("[pxe]\nrule = 'x'", 'pxe.rule = "x": expected an array of tables'),
    ("[pxe]\nrule = ['x']", 'pxe.rule = ["x"]: expected an array of tables'),
    # impossible values
    ("[http]\nport = -1", "http.port = -1: expected a whole number from 0 to 65535 (TCP port)"),
    ("[http]\nport = 65536", "http.port = 65536: expected a whole number from 0 to 65535 (TCP port)"),
    ("[daemon]\ndrain_timeout_s = nan", "daemon.drain_timeout_s = nan: expected a number from 0 to 86400 (seconds)"),
    ("[daemon]\nlog_level = 'loud'", 'daemon.log_level = "loud": expected one of "debug", "info", "warning", "error"'),
    ('[daemon]\nlog_level = """\n"""', 'daemon.log_level = "": expected one of "debug", "info", "warning", "error"'),
    ('[daemon]\nlog_level = "a\\nb"', r'daemon.log_level = "a\nb": expected one of "debug", "info", "warning", "error"'),
    ("[daemon]\nstate_dir = 'dpd'", 'daemon.state_dir = "dpd": expected an absolute path'),
    ("[boot]\ndirectory = \"/b\\u0000\"", r'boot.directory = "/b\u0000": expected an absolute path'),
    ("[pxe]\nlisten = '::'", 'pxe.listen = "::": expected an IPv4 address'),
    ("[pxe]\nserver_address = 'dp1'", 'pxe.server_address = "dp1": expected "" (the address of the interface asked) or an IPv4 address'),
    ("[pxe]\nresponse_delay_s = 33", "pxe.response_delay_s = 33: expected a whole number from 0 to 32 (seconds the client must have been asking; iPXE is exempt)"),
    ("[pxe]\ninterfaces = ['']", 'pxe.interfaces = [""]: expected a list of interface names; empty means every one'),
    ("[tftp]\nmax_blksize = 511", "tftp.max_blksize = 511: expected a whole number from 512 to 65464 (bytes, RFC 2348)"),
    ("[multicast]\ngroup_range = '10.0.0.0/8'", 'multicast.group_range = "10.0.0.0/8": expected a multicast network such as 239.192.0.0/24, 232.192.0.0/24 (source-specific) or ff15::6470:0/112'),
    ("[multicast]\ngroup_range = '239.192.0.1/24'", 'multicast.group_range = "239.192.0.1/24": expected a multicast network such as 239.192.0.0/24, 232.192.0.0/24 (source-specific) or ff15::6470:0/112'),
    ("[control]\nsocket = 'control.sock'", 'control.socket = "control.sock": expected an absolute path of at most 107 bytes'),
    (f"[control]\nsocket = '/{'x' * 107}'", f'control.socket = "/{"x" * 55}...: expected an absolute path of at most 107 bytes'),
    ("[metrics]\nlisten = '9467'", 'metrics.listen = "9467": expected "" or an address for /metrics as ADDRESS:PORT, IPv6 as [ADDRESS]:PORT'),
    ("[metrics]\nlisten = '::1:9467'", 'metrics.listen = "::1:9467": expected "" or an address for /metrics as ADDRESS:PORT, IPv6 as [ADDRESS]:PORT'),
    ("[metrics]\nlisten = '127.0.0.1:²'", 'metrics.listen = "127.0.0.1:²": expected "" or an address for /metrics as ADDRESS:PORT, IPv6 as [ADDRESS]:PORT'),
    # rules
    ("[[pxe.rule]]\nloader = 'x'", "pxe.rule[0].name is missing: expected a non-empty text"),
    ("[[pxe.rule]]\nname = 'x'", "pxe.rule[0].loader is missing: expected a boot file name or URL of 1 to 127 ASCII characters"),
    ("[[pxe.rule]]\nname = 'x'\nloader = 'é'", 'pxe.rule[0].loader = "é": expected a boot file name or URL of 1 to 127 ASCII characters'),
    ("[[pxe.rule]]\nname = 'x'\nloader = 'y'\nclient_class = 'PXE'", 'pxe.rule[0].client_class = "PXE": expected one of "PXEClient", "HTTPClient", "iPXE"'),
    ("[[pxe.rule]]\nname = 'x'\nloader = 'y'\nclient_arch = [65536]", "pxe.rule[0].client_arch = [65536]: expected a list of option 93 codes, 0 to 65535; empty fits every one"),
    # combinations
    ("[pxe]\nport = 4011", "pxe.boot_port = 4011: expected another port than pxe.port"),
    ("[multicast]\nport_low = 64000", "multicast.port_low = 64000: expected at most multicast.port_high = 63999"),
    ("[control]\ncertificate = '/c.pem'", 'control.private_key = "": expected a PEM file, since its counterpart is set'),
    ("[control]\nprivate_key = '/k.pem'", 'control.certificate = "": expected a PEM file, since its counterpart is set'),
    ("[control]\nlisten = '127.0.0.1:1'", 'control.token_file = "": expected a token file, or control.roles_file, since control.listen opens the API on TCP'),
    ("[control]\nclient_ca_file = '/ca'", 'control.certificate = "": expected a file, since control.client_ca_file lets clients in by certificate'),
    ("[control]\nclient_ca_file = '/ca'\ncertificate = '/c'\nprivate_key = '/k'", 'control.roles_file = "": expected a file, since control.client_ca_file lets clients in by certificate'),
    ("[control]\nlisten = '10.0.0.1:1'\ntoken_file = '/t'", 'control.listen = "10.0.0.1:1": expected a loopback address, or control.certificate and control.private_key for TLS'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_input_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "dpd.toml")
    assert str(caught.value) == f"dpd.toml: {message}"
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_the_defaults() -> None:
    assert parse_settings("", "") == Settings()


def test_values_replace_defaults_and_a_whole_number_may_stand_for_a_fraction() -> None:
    settings = parse_settings("[tftp]\ntimeout_s = 2\nport = 1069\n", "dpd.toml")
    assert settings == Settings(tftp=TftpSettings(timeout_s=2.0, port=1069), path="dpd.toml")
    assert type(settings.tftp.timeout_s) is float


def test_one_rule_replaces_the_six() -> None:
    (rule,) = parse_settings("[[pxe.rule]]\nname = 'x'\nloader = 'y'\nclient_arch = [0, 7]", "").pxe.rule
    assert (rule.name, rule.loader, rule.client_class, rule.client_arch) == ("x", "y", "PXEClient", (0, 7))
    assert len(DEFAULT_RULES) == 6


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "none.toml")
    assert str(caught.value) == (
        f"{tmp_path}/none.toml: no such settings file; start from config/dpd.toml of the sources, or leave --config out"
    )


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dpd.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"dpd\.toml: not UTF-8 text: byte 0 is 0xff"):
        load_settings(path)


def test_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dpd.toml"
    path.touch(mode=0)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied"):
        load_settings(path)


def test_comparing_lists_each_change_and_whether_it_needs_a_restart() -> None:
    old = Settings(path="a")
    new = replace(old, http=HttpSettings(port=80, max_connections=5), path="b")
    assert compare_settings(old, new) == [
        Change("http.port", 8080, 80, live=False),
        Change("http.max_connections", 2000, 5, live=True),
    ]
    assert compare_settings(old, replace(old, path="elsewhere")) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:9467", ("127.0.0.1", 9467)), ("[::1]:80", ("::1", 80)), ("0.0.0.0:0", ("0.0.0.0", 0))],
)
def test_endpoints_come_apart(text: str, parts: tuple[str, int]) -> None:
    assert split_endpoint(text) == parts
