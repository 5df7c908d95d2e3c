# SPDX-License-Identifier: Apache-2.0
"""A client that wants what is not its own, by names that lead out of the boot directory.

`thief` shares the LAN with dpd and asks by raw TFTP and HTTP, so that no client library tidies its names. Whatever it asks, it
gets an error, never a byte of what lies beside the boot directory, and dpd counts it.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.netns import Lan
from tests.interop.daemon import Daemon

TFTP_ERROR, TFTP_DATA = b"\0\x05", b"\0\x03"
LIMIT_S = 5.0
SECRET = b"Sesame-open-4711"
LOADER = b"MZ" + bytes(range(256)) * 3
HTTP_COUNTERS = ('dpd_http_responses_total{class="4xx"}', "dpd_http_malformed_total")
TFTP_COUNTERS = ("dpd_tftp_refused_total", "dpd_tftp_malformed_total")

# Below {boot} lie ipxe.efi and two links; beside it secret.txt, and {boot}-private/secret.txt, whose name has its prefix.
NAMES = [
    "../secret.txt",
    "/../secret.txt",
    "..\\secret.txt",
    "\\..\\secret.txt",
    "folder/../../secret.txt",
    "./.././secret.txt",
    "....//secret.txt",
    "../{boot.name}-private/secret.txt",
    "{boot}/../secret.txt",
    "{boot}-private/secret.txt",
    "/etc/passwd",
    "C:\\secret.txt",
    "c:../secret.txt",
    "link-out",
    "folder-out/secret.txt",
    "IPXE.EFI/../../secret.txt",
    "ipxe.efi/secret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..%5csecret.txt",
    "%5c..%5csecret.txt",
    "..%c0%afsecret.txt",
    "a" * 256,
    "a/" * 240,
]
BY_TFTP_ALONE = [
    "ipxe.efi\0.txt",  # a NUL ends the name; what follows is then neither mode nor option
    "\u2024\u2024/secret.txt",
    "a" * 600,  # RFC 2347: a request has at most 512 octets
]
BY_HTTP_ALONE = [
    "ipxe.efi%00.txt",
    "%00",
    "..%00/secret.txt",
    "%u002e%u002e/secret.txt",
    "%e2%80%a4%e2%80%a4/secret.txt",
    "a" * 9000,
]


@pytest.fixture
def lan(make_lan: Callable[..., Lan]) -> Lan:
    return make_lan("dpd", "thief")


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """The boot directory, with everything around it that it must not lead to."""
    boot = tmp_path / "boot"
    (boot / "folder").mkdir(parents=True)
    (boot / "ipxe.efi").write_bytes(LOADER)
    private = tmp_path / "boot-private"
    private.mkdir()
    for folder in (tmp_path, private):
        (folder / "secret.txt").write_bytes(SECRET)
    (boot / "link-out").symlink_to(tmp_path / "secret.txt")
    (boot / "folder-out").symlink_to(private)
    return boot


@pytest.fixture
def dpd(lan: Lan, boot: Path, tmp_path: Path, need: Callable[..., None]) -> Iterator[Daemon]:
    need("curl")
    with Daemon(tmp_path, f'[boot]\ndirectory = "{boot}"\n', lan["dpd"]) as daemon:
        yield daemon


class Thief:
    """Raw requests from a host that nothing was granted to."""

    def __init__(self, lan: Lan, name: str = "thief") -> None:
        self._host, self._server = lan[name], lan["dpd"].address

    def tftp(self, name: str, opcode: int = 1) -> bytes:
        """The first answer to a request; options only make it longer."""
        with self._host.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.sendto(opcode.to_bytes(2, "big") + name.encode() + b"\0octet\0", (self._server, 69))
            assert select.select([sock], [], [], LIMIT_S)[0], f"no answer for {name!r}"
            answer, source = sock.recvfrom(65536)
            sock.sendto(b"\0\x05\0\0\0", source)  # so that no transfer goes on
        return answer

    def http(self, target: str, host: str = "") -> bytes:
        """The whole answer to a GET for a request target as it stands."""
        with self._host.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with sock:
            sock.settimeout(LIMIT_S)
            sock.connect((self._server, 8080))
            named = host or self._server
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n".encode("latin-1"))
            return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture
def thief(lan: Lan) -> Thief:
    return Thief(lan)


def test_what_is_public_is_served_in_any_case_and_with_any_slashes(dpd: Daemon, thief: Thief) -> None:
    """Else every refusal below would prove nothing."""
    assert dpd.pid
    for name in ("ipxe.efi", "IPXE.efi", "/ipxe.efi", "\\ipxe.efi", ".//ipxe.efi"):
        assert thief.tftp(name) == TFTP_DATA + b"\0\1" + LOADER[:512]
    assert thief.http("/boot/IPXE.EFI").endswith(b"\r\n\r\n" + LOADER)


def test_tricks_with_names_get_a_tftp_error_and_a_count(dpd: Daemon, thief: Thief, boot: Path) -> None:
    for trick in NAMES + BY_TFTP_ALONE:
        before = dpd.metric(*TFTP_COUNTERS)
        answer = thief.tftp(trick.format(boot=boot))
        assert answer.startswith(TFTP_ERROR), trick
        assert SECRET not in answer
        assert dpd.metric(*TFTP_COUNTERS) == before + 1, trick


def test_tricks_with_names_get_an_http_error_and_a_count(dpd: Daemon, thief: Thief, boot: Path) -> None:
    for trick in NAMES + BY_HTTP_ALONE:
        before = dpd.metric(*HTTP_COUNTERS)
        answer = thief.http("/boot/" + trick.format(boot=boot))
        assert answer.split()[1].startswith(b"4"), (trick, answer[:80])
        assert SECRET not in answer
        assert dpd.metric(*HTTP_COUNTERS) == before + 1, trick


def test_an_absolute_request_target_leads_nowhere_else(dpd: Daemon, thief: Thief, lan: Lan, boot: Path) -> None:
    """RFC 9112 section 3.2.2 lets a client say http://host/path; which host it says changes nothing."""
    before = dpd.metric(*HTTP_COUNTERS)
    refused = [
        f"http://{lan['dpd'].address}:8080/boot/../secret.txt",
        "http://169.254.169.254/latest/meta-data/",
        "http://user@evil.example/boot/%2e%2e/secret.txt",
        f"file://{boot}-private/secret.txt",
        "//evil.example/../secret.txt",
    ]
    for target in refused:
        answer = thief.http(target, host="evil.example")
        assert answer.split()[1].startswith(b"4"), (target, answer[:80])
        assert SECRET not in answer
    assert dpd.metric(*HTTP_COUNTERS) == before + len(refused)


def test_nothing_can_be_written(dpd: Daemon, thief: Thief, boot: Path) -> None:
    before = dpd.metric('dpd_tftp_refused_total{reason="write"}')
    assert thief.tftp("ipxe.efi", opcode=2).startswith(TFTP_ERROR)
    assert dpd.metric('dpd_tftp_refused_total{reason="write"}') == before + 1
    assert (boot / "ipxe.efi").read_bytes() == LOADER
