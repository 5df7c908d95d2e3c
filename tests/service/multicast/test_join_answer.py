# SPDX-License-Identifier: Apache-2.0
"""The two parts of a join's answer; the whole of it is held by test_session.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Content
from dpd.service.multicast.join_answer import OpenStream, content_answer, stream_answer
from dpd.service.multicast.roster import Roster
from dpd.service.multicast.stream import Stream
from dpd.service.network.groups import Group

CONTENT = Content("LAB00001", 3, ContentKind.FILE, ContentFormat.RAW, "lab.img", 1000, "ab" * 32, 1, 1, (), (), 0.0)


def opened(group: str, key: bytes = b"") -> OpenStream:
    return OpenStream(cast(Stream, SimpleNamespace(feedback_port=4711)), Group(group, 63000), "192.0.2.1", key, b"salt")


def test_a_receiver_by_http_is_told_why_and_what_to_fetch() -> None:
    place = Roster().seat("192.0.2.9", "pc1")
    place.is_multicast, place.reason = False, "full"
    answer = content_answer(CONTENT, "1a2b", place, b"\x01" * 32)
    assert (answer["mode"], answer["reason"]) == ("unicast", "full")
    assert (answer["package_id"], answer["source_version"], answer["size_bytes"]) == ("LAB00001", 3, 1000)
    assert int(answer["member"], 16) == place.member


def test_the_source_is_named_where_the_group_wants_one() -> None:
    assert stream_answer(opened("239.192.0.1"))["source"] == ""
    assert stream_answer(opened("232.192.0.1"))["source"] == "192.0.2.1"
    assert stream_answer(opened("ff35::8000:1"))["source"] == "192.0.2.1"
    assert stream_answer(opened("ff15::1"))["sender"] == "192.0.2.1"


def test_a_cipher_is_named_with_its_key_alone() -> None:
    assert stream_answer(opened("239.192.0.1"))["cipher"] == ""
    sealed = stream_answer(opened("239.192.0.1", b"k" * 16))
    assert (sealed["cipher"], sealed["key"], sealed["salt"]) == ("aes-128-gcm", "6b" * 16, b"salt".hex())
