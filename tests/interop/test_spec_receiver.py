# SPDX-License-Identifier: Apache-2.0
"""A receiver that was written from docs/multicast-protocol.md alone, in sessions of the real daemon and beside dpd's own.

What it cannot do because the document did not tell, these tests show. It is Python byte by byte, so the rates are low.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.netns import DEVICE, Lan, missing
from cryptography.exceptions import InvalidSignature
from tests.interop.daemon import DPD, Daemon
from tests.interop.receiving import PATIENCE_S, Receiving
from tests.interop.spec_image import Door, Image, Refused
from tests.interop.spec_place import FALL_BACK, TALLY, Place
from tests.interop.spec_slab import END_OF_SLAB, HEADER, REPAIR, Header, recover, slab_set
from tests.service.certificates import write_certificate

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "docs/multicast-vectors.json").read_bytes())
SPEC = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.interop.spec_receiver")
OWN = (DPD, "receive")
PACKAGE = "LAB00001"
IMAGE_BYTES = (13 << 20) + 77  # three slabs, the last a short one with a padded row
LOSS = 0.02
HEADERS = 1478 / 1408  # of a datagram on the wire
SERVER6 = "fd77::1"
NAMES = ("r1", "r2", "r3", "r4")

SETTINGS = """
[pxe]
enabled = false
[tftp]
enabled = false
[metrics]
listen = ""
[http]
listen = "::"
{http}
[multicast]
interface = "{device}"
rate_mbit_s = {rate}
start_delay_s = 1
{multicast}
"""


class Lab:
    """The LAN and an image; a daemon with settings of one's own."""

    def __init__(self, lan: Lan, home: Path) -> None:
        self.lan, self.home = lan, home
        self.image = home / "lab.img"
        self.image.write_bytes(os.urandom(IMAGE_BYTES))

    def daemon(self, stack: ExitStack, multicast: str = "", http: str = "", rate: int = 40) -> Daemon:
        settings = SETTINGS.format(device=DEVICE, multicast=multicast, http=http, rate=rate)
        daemon = stack.enter_context(Daemon(self.home, settings, self.lan["server"]))
        daemon.tell("content", "add", self.image, "--package", PACKAGE)
        return daemon

    def receive(self, name: str, program: Sequence[str | Path], url: str = "") -> Receiving:
        address = self.lan["server"].address
        return Receiving(self.lan[name], url or f"http://{address}:8080", PACKAGE, self.home / f"{name}.img", program)

    def assert_identical(self, receivers: Sequence[Receiving]) -> None:
        wanted = hashlib.sha256(self.image.read_bytes()).digest()
        for receiver in receivers:
            assert hashlib.sha256(receiver.output.read_bytes()).digest() == wanted, receiver.host.name


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    absent = missing("nft")
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
    with Lan("server", *NAMES, ipv6=True, checksum_offload=True) as lan:
        lan.split_trains("server")
        yield Lab(lan, tmp_path)


def expected_maximum(receivers: int, k: int, loss: float) -> float:
    """Of the symbols that `receivers` lose of k: what the erasure code has to add for all of them."""
    at_most, expected = 0.0, 0.0
    for lost in range(k + 1):
        expected += 1 - at_most**receivers
        at_most += math.comb(k, lost) * loss**lost * (1 - loss) ** (k - lost)
    return expected - 1


def test_two_of_each_kind_share_one_session_with_loss(lab: Lab) -> None:
    """On a source-specific group: all four have the image, and for what the code needs for the worst of four."""
    for name in NAMES:
        lab.lan.lose(name, LOSS)
    with ExitStack() as stack:
        lab.daemon(stack, 'group_range = "232.192.0.0/24"', rate=60)
        before = lab.lan["server"].traffic().sent_bytes
        receivers = [lab.receive(name, program) for name, program in zip(NAMES, (OWN, SPEC, OWN, SPEC), strict=True)]
        for receiver in receivers:
            receiver.complete()
        sent = lab.lan["server"].traffic().sent_bytes - before
    lab.assert_identical(receivers)
    for receiver in (receivers[1], receivers[3]):
        told = receiver.events[-1]
        assert told["lost"] > 0
        assert told["nacks"] > 0
        assert told["unicast_bytes"] == told["bad_slabs"] == 0
    needed = HEADERS * IMAGE_BYTES * (1 + expected_maximum(4, 128, LOSS) / 128)
    assert sent <= 1.05 * needed, f"{sent / IMAGE_BYTES:.3f} of the image were sent, {needed / IMAGE_BYTES:.3f} needed"


JOIN = f"/mc/sessions/{PACKAGE}/join"
REFUSALS: tuple[tuple[str, dict[str, Any] | None, int, str], ...] = (
    ("/mc/sessions/NONE0001/join", {}, 404, "content_not_found"),
    (JOIN, {"wire": [2]}, 400, "bad_request"),
    (JOIN, {"verified": "ffff"}, 400, "bad_request"),
    (JOIN, {"verified": "08"}, 400, "bad_request"),
    (JOIN, {"credit": 0}, 400, "bad_request"),
    (JOIN, {"slots": 1025}, 400, "bad_request"),
    ("/mc/sessions/00000000/progress", {"member": "0" * 16, "verified": ""}, 409, "session_refused"),
    ("/mc/sessions/00000000/complete", {"member": "0" * 16}, 409, "session_refused"),
    ("/mc/sessions/00000000/complete", {"member": "0" * 16, "statistics": {"lost": "1"}}, 400, "bad_request"),
    (f"/content/{PACKAGE}/1/leaves/3", None, 404, "slab_not_found"),
)


def refusal(door: Door, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        door.fetch(path, body)
    return refused.value.status, json.loads(refused.value.text)["error"]["code"]


def test_an_encrypted_session_over_ipv6_and_what_is_refused(lab: Lab) -> None:
    lab.lan["server"].run("ip", "-6", "address", "add", f"{SERVER6}/64", "dev", DEVICE, "nodad")
    for number, name in enumerate(NAMES, start=2):
        lab.lan[name].run("ip", "-6", "address", "add", f"fd77::{number}/64", "dev", DEVICE, "nodad")
    certificate, key = write_certificate(lab.home, addresses=(SERVER6,))
    with ExitStack() as stack:
        http = f'certificate = "{certificate}"\nprivate_key = "{key}"'
        lab.daemon(stack, 'encryption = true\ngroup_range = "ff15::6470:0/112"', http, rate=100)
        url = f"https://[{SERVER6}]:8443"
        receivers = [lab.receive(n, (*p, "--ca-file", certificate), url) for n, p in (("r1", OWN), ("r2", SPEC))]
        for receiver in receivers:
            receiver.complete()
        with lab.lan["r3"].inside():
            plain, secure = Door(f"http://[{SERVER6}]:8080", ""), Door(url, str(certificate))
            answers = [plain.ask(JOIN, {"ciphers": ["aes-128-gcm"]}), secure.ask(JOIN, {})]
            for path, body, status, code in REFUSALS:
                assert refusal(plain, path, body) == (status, code), path
    lab.assert_identical(receivers)
    assert [answer["mode"] for answer in answers] == ["unicast", "unicast"], (
        "no key without TLS, none without the cipher"
    )
    assert receivers[1].all("joined")[0]["cipher"] == "aes-128-gcm"
    assert receivers[1].all("completed")[0]["unicast_bytes"] == 0


def test_it_follows_orders_and_goes_by_http_where_nothing_is_heard(lab: Lab) -> None:
    """MOVE, FALL_BACK, KICK and END, and a host that multicast does not reach."""
    deafen = "table ip deaf { chain c { type filter hook input priority 0; ip daddr 224.0.0.0/4 drop; }; }"
    lab.lan["r4"].run("nft", deafen)
    with ExitStack() as stack:
        daemon = lab.daemon(stack, rate=20)
        receivers = moved, fallen, kicked, deaf = [lab.receive(name, SPEC) for name in NAMES]
        for receiver in (moved, fallen, kicked):
            receiver.wait_for_share(0.3)
        session = session_id(daemon)
        labels = [receiver.all("joined")[0]["member"][8:] for receiver in receivers[:3]]
        for verb, label, *options in (
            ("move", labels[0], "--class", "1"),
            ("kick", labels[1]),
            ("kick", labels[2], "--no-fall-back"),
        ):
            daemon.tell("session", verb, session, label, *options)
        assert moved.wait_for(lambda e: e["event"] == "joined")["class"] == 1
        assert kicked.process.wait(PATIENCE_S) != 0
        kicked.kill()
        for receiver in (fallen, deaf):
            receiver.complete()
        daemon.tell("session", "stop", session)
        moved.wait_for(lambda e: e["event"] == "waiting")
        daemon.tell("session", "start", PACKAGE, "--rate", "100")
        moved.complete()
    lab.assert_identical((moved, fallen, deaf))
    assert [e["order"] for e in fallen.all("left")] == [FALL_BACK]
    assert fallen.events[-1]["unicast_slabs"] in (1, 2), "it kept what it had"
    assert deaf.events[-1]["unicast_slabs"] == 3
    assert moved.events[-1]["unicast_slabs"] == 0


def session_id(daemon: Daemon) -> str:
    (session,) = json.loads(daemon.tell("session", "list", "--json"))["sessions"]
    return str(session["session_id"])


# ---- the vectors, and its independence


def test_it_imports_nothing_from_dpd() -> None:
    for path in Path(__file__).parent.glob("spec_*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not [m for m in modules if m.split(".")[0] in ("dpd", "bench")], path


@pytest.mark.parametrize("vector", VECTORS["erasure_code"]["vectors"], ids=lambda v: f"k={v['k']}")
def test_it_recovers_what_the_vectors_encode(vector: dict[str, Any]) -> None:
    k = vector["k"]
    stream = b"".join(hashlib.sha256(f"k={k}/{i}".encode()).digest() for i in range(k))
    source = {j: stream[16 * j : 16 * j + 16] for j in range(k)}
    parity = {int(r): bytes.fromhex(symbol) for r, symbol in vector["parity"].items()}
    lacking = sorted(source)[:: max(1, k // 5)][:5]
    known = {j: symbol for j, symbol in source.items() if j not in lacking}
    assert recover(known, parity, k) == {j: source[j] for j in lacking}


@pytest.mark.parametrize("vector", VECTORS["slab_sets"])
def test_it_writes_the_slab_sets_of_the_vectors(vector: dict[str, Any]) -> None:
    assert slab_set(set(vector["slabs"]), vector["slab_count"]).hex() == vector["bytes"]


def image_of_the_vectors(path: Path) -> Image:
    return Image(VECTORS["manifest"]["document"].encode(), Door("http://localhost", ""), str(path / "image"))


def place_of_the_vectors(path: Path, member: str = "00000000aabbccdd") -> Place:
    cipher = {"cipher": "aes-128-gcm", "key": VECTORS["sealed"]["key"], "salt": VECTORS["sealed"]["salt"]}
    answer = {"session": 0x01020304, "epoch": 0x0506, "member": member, "friendly": False} | cipher
    return Place(image_of_the_vectors(path), answer, 4096, dict.fromkeys((*TALLY, "recovered", "nacks"), 0), 0.0)


def wire(name: str) -> bytes:
    (message,) = (m for m in VECTORS["messages"] if m["name"] == name)
    return bytes.fromhex(message["wire"])


def test_it_reads_the_signed_manifest_of_the_vectors(tmp_path: Path) -> None:
    image = image_of_the_vectors(tmp_path)
    content = b"".join(bytes([n % 251]) * 1408 for n in range(-(-image.size // 1408)))[: image.size]
    assert image.count == 2
    assert not image.store(0, content[1:])
    assert image.store(1, content[5767168:] + bytes(100))  # with zeros that pad the row
    assert image.store(0, content[:5767168])
    assert (tmp_path / "image").read_bytes() == content
    forged = VECTORS["manifest"]["document"].replace("LAB00001", "LAB00002")
    with pytest.raises(InvalidSignature):
        Image(forged.encode(), image.door, str(tmp_path / "other"))


def test_it_believes_the_signed_vectors_and_no_others(tmp_path: Path) -> None:
    place = place_of_the_vectors(tmp_path)
    damaged = bytearray(wire("BEAT"))
    damaged[30] ^= 1
    place.receive(bytes(damaged), 1.0)
    assert not place.has_heard
    place.receive(wire("BEAT"), 1.0)
    assert (place.has_heard, place.members, place.is_representative, place.nack_ms) == (True, 4, True, 9)
    place.receive(wire("CONTROL FALL_BACK"), 1.0)
    assert place.order == FALL_BACK
    other = place_of_the_vectors(tmp_path, "00000000aabbccde")
    other.receive(wire("CONTROL FALL_BACK"), 1.0)
    assert other.order == 0


def test_leaves_save_what_is_good_of_a_damaged_slab(tmp_path: Path) -> None:
    """Slab 1 of the manifest's object is one row: two symbols and zeros."""
    place = place_of_the_vectors(tmp_path)
    place.cipher = None
    symbols = [bytes([4096 % 251]) * 1408, (bytes([4097 % 251]) * 92).ljust(1408, b"\0"), *[bytes(1408)] * 30]
    leaves = b"".join(hashlib.sha256(symbol).digest()[:8] for symbol in symbols)
    place.image.door.fetch = lambda path, *_: leaves if path.endswith("/LAB00001/3/leaves/1") else b""  # type: ignore[method-assign]

    def send(column: int, symbol: bytes, flags: int, tx_seq: int, now: float) -> None:
        header = Header(0x11, flags, 0x0506, 0x01020304, 1, 0, column, 0, tx_seq, 0, 0, 2)
        place.receive(HEADER.pack(*header) + symbol, now)

    for column, symbol in enumerate(symbols):
        send(column, symbol if column != 1 else b"forged".ljust(1408), END_OF_SLAB, column, 1.0)
    assert place.image.verified == set()
    place.outbox.clear()
    place.handle_timeout(1.0)
    nack = place.outbox[0]
    assert nack[0] == 0x18
    assert nack[28 + 13 :] == bytes([0, 0, 0, 1, 0, 1, *[0] * 30]), "column 1 lacks one symbol"
    send(1, symbols[1], REPAIR | END_OF_SLAB, 32, 1.01)
    assert place.image.verified == {1}
    assert place.tally["bad_slabs"] == 1


def test_it_opens_the_sealed_vector(tmp_path: Path) -> None:
    vector, place = VECTORS["sealed"], place_of_the_vectors(tmp_path)
    header = bytes.fromhex(vector["header"])
    assert place.cipher
    sealed = place.cipher.encrypt(bytes.fromhex(vector["nonce"]), bytes([0xA5]) * 1408, header)
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert place._open(Header(*HEADER.unpack(header)), header + sealed) == bytes([0xA5]) * 1408
