# SPDX-License-Identifier: Apache-2.0
"""`dpd receive` where Python is Windows', as in Windows PE: an image by HTTP into a file, each slab held against the signed manifest.

The receiver of multicast asks for what Linux alone has (sockets that tell where a datagram came in, locks, places reserved in
files). This one asks for files, sockets and hashes. Exit codes are those of `dpd receive`. Run again, it goes on where it was:
what stands in `.part` is hashed anew, and what fits its slab stays.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from dpd.content.manifest import MAX_DOCUMENT_BYTES, Manifest, SlabCheck, decode_signed
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, DpdError

EXIT_FAILED, EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_CORRUPT, EXIT_INTERRUPTED = 1, 3, 4, 5, 130
OK, PARTIAL_CONTENT, NOT_FOUND = 200, 206, 404
TIMEOUT_S = 30.0
RETRY_S = 2.0
PROGRESS_S = 5.0
TRIES_OF_A_SLAB = 3
KEY_BYTES = 32


class Unreachable(DpdError):
    """The distribution point does not answer now."""


class Point:
    """Requests to a distribution point, one after the other; what breaks is tried again until `patience_s` is over."""

    def __init__(self, url: str, ca_file: str, patience_s: float) -> None:
        where = urlsplit(url if "://" in url else f"http://{url}")
        if where.scheme not in ("http", "https") or not where.hostname:
            raise DpdError(f"{url}: expected a distribution point's address such as http://dp:8080")
        self._url = f"{where.scheme}://{where.netloc}"
        self._patience_s = patience_s
        if where.scheme == "https":
            import ssl  # Python may be without

            trusted = ssl.create_default_context(cafile=ca_file or None)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                where.hostname, where.port, timeout=TIMEOUT_S, context=trusted
            )
        else:
            self._connection = http.client.HTTPConnection(where.hostname, where.port or 80, timeout=TIMEOUT_S)

    def ask(self, path: str, extent: tuple[int, int] | None = None) -> bytes:
        """A whole answer, or these bytes of a file. Raises ContentNotFound, Unreachable, DpdError."""
        headers = {"Range": f"bytes={extent[0]}-{extent[1] - 1}"} if extent else {}
        until = time.monotonic() + self._patience_s
        while True:
            try:
                self._connection.request("GET", path, headers=headers)
                answer = self._connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                why = str(error) or type(error).__name__
            else:
                if answer.status < 500:
                    return self._judge(answer.status, path, content, extent)
                why = f"HTTP {answer.status}"
            if time.monotonic() + RETRY_S > until:
                raise Unreachable(f"{self._url}: {why}; is dpd running there, and is the port open?")
            time.sleep(RETRY_S)

    def _judge(self, status: int, path: str, content: bytes, extent: tuple[int, int] | None) -> bytes:
        if status == NOT_FOUND:
            raise ContentNotFound(f"{self._url}{path}: is not there")
        if status != (PARTIAL_CONTENT if extent else OK):
            raise DpdError(f"{self._url}{path}: HTTP {status}: {content[:200].decode('utf-8', 'replace')}")
        return content


def receive(point: Point, package: str, version: int | None, key: bytes | None, output: str) -> Manifest:
    """Fetch what is not there yet. Raises ContentCorrupt, ContentError, ContentNotFound, DpdError."""
    folder = f"/content/{quote(package, safe='')}"
    signed = point.ask(f"{folder}/{version}/manifest" if version is not None else f"{folder}/manifest")
    if len(signed) > MAX_DOCUMENT_BYTES:
        raise ContentCorrupt(f"{package}: a manifest of {len(signed)} bytes")
    manifest = decode_signed(signed, key)
    if manifest.package_id != package:
        raise ContentCorrupt(f"{package}: the manifest is of {manifest.package_id}")
    part = f"{output}.part"
    try:
        with open(part, "r+b" if os.path.exists(part) else "w+b") as file:
            _fill(point, f"{folder}/{manifest.source_version}", manifest, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, output)
    except OSError as error:
        raise ContentError(
            f"{output}: cannot be written: {error.strerror}; is there room for {manifest.size_bytes} bytes?"
        ) from None
    return manifest


def _fill(point: Point, path: str, manifest: Manifest, file: BinaryIO) -> None:
    check = SlabCheck(manifest)
    had_bytes = file.seek(0, os.SEEK_END)
    file.truncate(manifest.size_bytes)
    told_at = 0.0
    for slab in range(manifest.slab_count):
        begin, end = manifest.extent(slab)
        file.seek(begin)
        if end > had_bytes or not check.fits(slab, file.read(end - begin)):
            content = _fetch(point, path, manifest, check, slab)
            file.seek(begin)
            file.write(content)
        if time.monotonic() - told_at > PROGRESS_S:
            told_at = time.monotonic()
            _tell("progress", package=manifest.package_id, verified_bytes=end, size_bytes=manifest.size_bytes)


def _fetch(point: Point, path: str, manifest: Manifest, check: SlabCheck, slab: int) -> bytes:
    begin, end = manifest.extent(slab)
    for _ in range(TRIES_OF_A_SLAB):
        content = point.ask(path, (begin, end))
        if len(content) == end - begin and check.fits(slab, content):
            return content
    raise ContentCorrupt(
        f"{manifest.package_id}: slab {slab} is not what its manifest says; `dpd content verify` at the distribution point"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))
    parser = argparse.ArgumentParser(prog="dpd-target", description="Receive an image by HTTP, on Windows.")
    parser.add_argument("url", help="the distribution point, such as http://dp:8080")
    parser.add_argument("package", help="the package id, such as LAB00001")
    parser.add_argument("-o", "--output", required=True, help="the file to write; .part stands beside it meanwhile")
    parser.add_argument("--source-version", type=int, help="default: the newest")
    parser.add_argument("--ca-file", default=_beside(beside, "ca.pem"), help="default: ca.pem beside this program")
    parser.add_argument(
        "--public-key",
        default="",
        help="64 hex digits: only a manifest signed by this key is taken; default: signing-key beside this program",
    )
    parser.add_argument("--patience", type=float, default=600.0, help="seconds without an answer before giving up")
    if arguments[:1] and arguments[0] in ("deploy", "mc-test"):
        parser.error(f"{arguments[0]} is for Linux; on Windows an image can be received: URL PACKAGE -o FILE")
    options = parser.parse_args(arguments)
    try:
        point = Point(options.url, options.ca_file, options.patience)
        manifest = receive(
            point, options.package, options.source_version, _key(options.public_key, beside), options.output
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (DpdError, OSError) as error:
        _tell("failed", reason=str(error))
        return _exit_code(error)
    _tell("completed", package=manifest.package_id, source_version=manifest.source_version, output=options.output)
    return 0


def _beside(folder: str, name: str) -> str:
    place = os.path.join(folder, name)
    return place if os.path.isfile(place) else ""


def _key(text: str, beside: str) -> bytes | None:
    """The key that manifests are to be signed by. Raises DpdError."""
    if not text and (place := _beside(beside, "signing-key")):
        with open(place, encoding="ascii", errors="replace") as file:
            text = file.read().strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b"?"
    if text and len(key) != KEY_BYTES:
        raise DpdError("the signing key: expected 64 hex digits")
    return key or None


def _exit_code(error: Exception) -> int:
    kinds = ((ContentNotFound, EXIT_NOT_FOUND), (Unreachable, EXIT_UNREACHABLE), (ContentCorrupt, EXIT_CORRUPT))
    return next((code for kind, code in kinds if isinstance(error, kind)), EXIT_FAILED)


def _tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
