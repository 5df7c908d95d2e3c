# SPDX-License-Identifier: Apache-2.0
"""The DHCP frame: captures, RFC rules, arbitrary bytes, and scapy as a second opinion."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from tests.data.dhcp_vectors import VECTORS

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp.message import MIN_BYTES, Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import Option

DISCOVER = VECTORS["edk2-x64-discover"]
FIXED = DISCOVER[:240]  # the header with its cookie, no options
OWN_LENGTH = {50, 52, 53, 54, 57}  # checked by the decoder

addresses = st.ip_addresses(v=4).map(str)
texts = st.binary(max_size=63).filter(lambda value: 0 not in value)


@st.composite
def option_lists(draw: st.DrawFn) -> tuple[tuple[int, bytes], ...]:
    codes = draw(st.lists(st.integers(1, 254).filter(lambda c: c not in OWN_LENGTH), unique=True, max_size=12))
    codes.sort(key=lambda code: code == Option.RELAY_AGENT)  # it goes last on the wire
    return tuple((code, draw(st.binary(max_size=600))) for code in codes)


messages = st.builds(
    Message,
    op=st.sampled_from([1, 2]),
    xid=st.integers(0, 2**32 - 1),
    chaddr=st.binary(max_size=16),
    options=option_lists().filter(lambda options: sum(len(value) + 8 for _, value in options) < 3500),
    htype=st.integers(0, 255),
    hops=st.integers(0, 255),
    secs=st.integers(0, 65535),
    flags=st.integers(0, 65535),
    ciaddr=addresses,
    yiaddr=addresses,
    siaddr=addresses,
    giaddr=addresses,
    sname=texts,
    file=st.binary(max_size=127).filter(lambda value: 0 not in value),
)


@given(messages)
def test_what_is_encoded_decodes_to_itself(message: Message) -> None:
    data = encode(message)
    assert decode(data) == message
    assert len(data) >= MIN_BYTES


REASONS = {
    "too_short",
    "too_long",
    "no_magic_cookie",
    "operation",
    "hardware_address_length",
    "option_truncated",
    "option_length",
    "overload",
}


def decode_or_reason(data: bytes) -> Message | str:
    try:
        return decode(data)
    except MalformedMessage as error:
        return error.reason


@given(st.one_of(st.binary(max_size=700), st.binary(max_size=200).map(lambda tail: FIXED + tail)))
@example(FIXED + b"\x34\x01\x03")
@example(FIXED + b"\x35")
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    outcome = decode_or_reason(data)
    if isinstance(outcome, str):
        assert outcome in REASONS
    else:
        codes = [code for code, _ in outcome.options]
        assert len(codes) == len(set(codes))


def test_discover_of_edk2() -> None:
    message = decode(DISCOVER)
    assert message.op == 1
    assert message.xid == 0xC4EC4A4B
    assert message.flags == 0x8000
    assert message.chaddr.hex(":") == "52:54:00:77:03:04"
    assert message.message_type == MessageType.DISCOVER
    assert [code for code, _ in message.options] == [53, 57, 55, 97, 94, 93, 60]
    assert message.option(Option.VENDOR_CLASS) == b"PXEClient:Arch:00007:UNDI:003000"
    assert message.option(Option.SERVER_ID) is None
    assert message.address(Option.SERVER_ID) is None


def test_ack_of_dnsmasq_has_header_fields_and_server_id() -> None:
    message = decode(VECTORS["dnsmasq-proxy-ack"])
    assert (message.ciaddr, message.yiaddr, message.siaddr) == ("10.77.0.100", "0.0.0.0", "10.77.0.10")
    assert (message.sname, message.file) == (b"10.77.0.10", b"grubx64-lab.efi")
    assert message.address(Option.SERVER_ID) == "10.77.0.10"


@pytest.mark.parametrize("name", VECTORS)
def test_captures_decode_as_scapy_has_them(name: str) -> None:
    message, theirs = decode(VECTORS[name]), BOOTP(VECTORS[name])
    assert (message.op, message.xid, message.secs, message.flags) == (
        theirs.op,
        theirs.xid,
        theirs.secs,
        int(theirs.flags),
    )
    assert (message.ciaddr, message.yiaddr, message.siaddr, message.giaddr) == (
        theirs.ciaddr,
        theirs.yiaddr,
        theirs.siaddr,
        theirs.giaddr,
    )
    assert bytes([message.message_type or 0]) == bytes([_scapy_options(theirs)["message-type"]])
    assert message.address(Option.SERVER_ID) == _scapy_options(theirs).get("server_id")
    assert message.option(Option.VENDOR_CLASS) == _scapy_options(theirs).get("vendor_class_id")


@pytest.mark.parametrize("name", VECTORS)
def test_captures_encode_to_the_same_packet(name: str) -> None:
    assert encode(decode(VECTORS[name])).rstrip(b"\0") == _without_padding(VECTORS[name])


def _without_padding(data: bytes) -> bytes:
    """As our encoder has it: a PAD after option 67."""
    message = decode(data)
    url = message.option(Option.BOOT_FILE)
    return data.rstrip(b"\0") if url is None else data.replace(url, url + b"\0", 1).rstrip(b"\0")


def test_scapy_reads_what_we_encode() -> None:
    ours = Message(
        op=2,
        xid=0x01020304,
        chaddr=bytes(range(6)),
        siaddr="192.0.2.7",
        sname=b"192.0.2.7",
        file=b"ipxe.efi",
        options=((53, b"\x02"), (54, bytes((192, 0, 2, 7))), (60, b"PXEClient"), (67, b"ipxe.efi"), (82, b"\x01\x01a")),
    )
    theirs = BOOTP(encode(ours))
    options = _scapy_options(theirs)
    assert (theirs.xid, theirs.siaddr, theirs.file.rstrip(b"\0")) == (0x01020304, "192.0.2.7", b"ipxe.efi")
    assert options["message-type"] == 2
    assert options["server_id"] == "192.0.2.7"
    assert options["boot-file-name"] == b"ipxe.efi"


def _scapy_options(packet: Any) -> dict[str, Any]:
    return {entry[0]: entry[1] for entry in packet[DHCP].options if isinstance(entry, tuple)}


def test_repeated_options_are_joined_at_their_first_place() -> None:
    """RFC 3396 section 7."""
    data = FIXED + b"\x35\x01\x01" + b"\x43\x03abc" + b"\x0c\x01x" + b"\x43\x03def" + b"\xff"
    assert decode(data).options == ((53, b"\x01"), (67, b"abcdef"), (12, b"x"))


def test_long_options_are_split_and_joined() -> None:
    message = Message(op=1, xid=1, chaddr=b"", options=((43, bytes(600)),))
    data = encode(message)
    assert data[240:242] == b"\x2b\xff"
    assert data[240 + 257 : 240 + 259] == b"\x2b\xff"
    assert data[240 + 514 : 240 + 516] == bytes((43, 90))
    assert decode(data) == message


def test_overload_reads_options_out_of_file_then_sname() -> None:
    """RFC 3396 section 5: the aggregate is options, file, sname."""
    sname = b"\x43\x02ef\xff".ljust(64, b"\0")
    file = b"\x43\x02cd\xff".ljust(128, b"\0")
    data = DISCOVER[:44] + sname + file + DISCOVER[236:240] + b"\x34\x01\x03\x43\x02ab\xff"
    message = decode(data)
    assert message.options == ((67, b"abcdef"),)
    assert (message.sname, message.file) == (b"", b"")


def test_overload_of_sname_leaves_file_as_text() -> None:
    sname = b"\x0c\x04host\xff".ljust(64, b"\0")
    data = DISCOVER[:44] + sname + b"a.efi".ljust(128, b"\0") + DISCOVER[236:240] + b"\x34\x01\x02\xff"
    assert decode(data).file == b"a.efi"
    assert decode(data).option(12) == b"host"


@pytest.mark.parametrize("value", [b"\x34\x01\x04", b"\x34\x02\x01\x01", b"\x34\x00"])
def test_nonsense_overload_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedMessage, match="overload"):
        decode(FIXED + value + b"\xff")


def test_option_82_goes_last() -> None:
    """RFC 3046 section 2.2."""
    data = encode(Message(op=2, xid=1, chaddr=b"", options=((82, b"\x01\x02id"), (60, b"PXEClient"))))
    assert data.rstrip(b"\0").endswith(b"PXEClient\x52\x04\x01\x02id\xff")


def test_edk2_may_write_past_option_67() -> None:
    """EDK2 sets the byte after the value to NUL; the packet must mean the same afterwards."""
    message = Message(op=2, xid=1, chaddr=b"", options=((67, b"ipxe.efi"), (82, b"\x01\x02id")))
    data = bytearray(encode(message))
    data[data.index(b"ipxe.efi") + len(b"ipxe.efi")] = 0
    assert decode(bytes(data)) == message


def test_missing_end_and_bytes_after_end_are_let_pass() -> None:
    assert decode(FIXED + b"\x35\x01\x01").message_type == 1
    assert decode(FIXED + b"\x35\x01\x01\xff\x35\x05").message_type == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too_short"),
        (FIXED[:-1], "too_short"),
        (FIXED + bytes(4096), "too_long"),
        (FIXED[:236] + b"\x63\x82\x53\x64", "no_magic_cookie"),
        (b"\x03" + FIXED[1:], "operation"),
        (FIXED[:2] + b"\x11" + FIXED[3:], "hardware_address_length"),
        (FIXED + b"\x35", "option_truncated"),
        (FIXED + b"\x35\x02\x01", "option_truncated"),
        (FIXED + b"\x35\x02\x01\x01\xff", "option_length"),
        (FIXED + b"\x36\x03\x01\x01\x01\xff", "option_length"),
        (FIXED + b"\x35\x01\x01\x35\x01\x01\xff", "option_length"),
    ],
)
def test_malformed_names_its_reason(data: bytes, reason: str) -> None:
    assert decode_or_reason(data) == reason


@pytest.mark.parametrize(
    "message",
    [
        Message(op=2, xid=1, chaddr=bytes(17)),
        Message(op=2, xid=1, chaddr=b"", file=b"x" * 128),
        Message(op=2, xid=1, chaddr=b"", sname=b"x" * 64),
        Message(op=2, xid=1, chaddr=b"", siaddr="10.0.0"),
        Message(op=2, xid=1, chaddr=b"", siaddr="10.0.0.256"),
        Message(op=2, xid=1, chaddr=b"", options=((67, b"a"), (67, b"b"))),
        Message(op=2, xid=1, chaddr=b"", options=((0, b""),)),
        Message(op=2, xid=1, chaddr=b"", options=((52, b"\x01"),)),
    ],
)
def test_what_has_no_place_on_the_wire_is_misuse(message: Message) -> None:
    with pytest.raises(MisuseError):
        encode(message)
