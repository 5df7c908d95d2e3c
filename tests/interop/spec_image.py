# SPDX-License-Identifier: Apache-2.0
"""The second receiver of dpd-mc/1 (spec_receiver.py): control over HTTP, the signed manifest, and what is verified."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.interop.spec_slab import SLAB, slab_set

CONTEXT = b"dpd-mc/1 control\0"  # 9


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class Door:
    """The distribution point's HTTP side (3)."""

    def __init__(self, url: str, ca_file: str) -> None:
        self.url = url.rstrip("/")
        self.host = urlsplit(url).hostname or ""
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else None

    def fetch(self, path: str, body: dict[str, Any] | None = None, span: str = "") -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.url + path, data, headers | ({"Range": span} if span else {}))
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.fetch(path, body))
        return answer


class Image:
    """The signed manifest (6), and the slabs that are verified and written."""

    def __init__(self, document: bytes, door: Door, output: str) -> None:
        self.door = door
        envelope = json.loads(document)
        manifest = envelope["manifest"]
        self.public_key: str = envelope["public_key"]
        self.key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
        canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        self.key.verify(bytes.fromhex(envelope["signature"]), canonical)
        if (manifest["format"], manifest["slab_bytes"], manifest["fec"]) != ("dpd-manifest/1", SLAB, "rs-cauchy/1"):
            raise SystemExit("a manifest that this receiver does not know")
        self.version: int = manifest["source_version"]
        self.path = f"/content/{manifest['package_id']}/{self.version}"
        self.size: int = manifest["size_bytes"]
        self.count: int = manifest["slab_count"]
        self.hashes = base64.b64decode(manifest["slab_hashes"])
        self.verified: set[int] = set()
        self.file = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def is_authentic(self, datagram: bytes) -> bool:
        try:
            self.key.verify(datagram[-64:], CONTEXT + datagram[:-64])
        except InvalidSignature:
            return False
        return True

    def slab_bytes(self, slab: int) -> int:
        return min(SLAB, self.size - slab * SLAB)

    def store(self, slab: int, content: bytes) -> bool:
        """Write it where it has the hash of the manifest."""
        content = content[: self.slab_bytes(slab)]
        if hashlib.sha256(content).digest() != self.hashes[32 * slab : 32 * slab + 32]:
            return False
        os.pwrite(self.file, content, slab * SLAB)
        self.verified.add(slab)
        tell("progress", verified_slabs=len(self.verified), slabs=self.count)
        return True

    def fetch(self, slab: int) -> bool:
        first = slab * SLAB
        return self.store(slab, self.door.fetch(self.path, span=f"bytes={first}-{first + self.slab_bytes(slab) - 1}"))

    def is_complete(self) -> bool:
        return len(self.verified) == self.count

    def hexadecimal(self) -> str:
        return slab_set(self.verified, self.count).hex()
