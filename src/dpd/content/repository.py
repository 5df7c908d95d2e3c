# SPDX-License-Identifier: Apache-2.0
"""How content lies where others fetch it from: another dpd, a static web server, S3, and the inside of a bundle.

    repository/v1/identity                                      {"id": ..., "public_key": ...}
    repository/v1/packages/<package_id>/newest                  {"source_version": N}
    repository/v1/packages/<package_id>/<version>/description   the signed description
    repository/v1/packages/<package_id>/<version>/manifest      the signed slab manifest; contents of one file only
    repository/v1/blobs/<sha256>                                the bytes, of which ranges can be asked for
    repository/v1/chunks/<sha256>                               the chunk index, for big blobs

The names are relative to whatever the repository hangs on: a URL, a folder, a bucket's prefix.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from dpd.content.chunks import MIN_CHUNK_BYTES
from dpd.content.manifest import MAX_SOURCE_VERSION, PACKAGE_ID
from dpd.content.signatures import ed25519
from dpd.errors import ContentCorrupt

ROOT = "repository/v1"
IDENTITY = f"{ROOT}/identity"
# Which dpds a request has come through, nearest last: "X-Dpd-Via: id, id". Who finds itself in there fetches nothing for it.
VIA_HEADER = "X-Dpd-Via"
MAX_HOPS = 8
MAX_SMALL_BYTES = 4096  # of the identity and of "newest"

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


class Kind(StrEnum):
    """What lies under a path."""

    IDENTITY = "identity"
    NEWEST = "newest"
    DESCRIPTION = "description"
    MANIFEST = "manifest"
    BLOB = "blob"
    CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class Name:
    """A path in its parts; those that its kind has not are empty or 0."""

    kind: Kind
    package_id: str = ""
    source_version: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who offers the repository: 32 hexadecimal digits made of the key, and the 32 bytes of the key that signs there."""

    id: str
    public_key: bytes


def newest(package_id: str) -> str:
    """Where the newest version's number is."""
    return f"{ROOT}/packages/{package_id}/newest"


def description(package_id: str, source_version: int) -> str:
    """Where the signed description is."""
    return f"{ROOT}/packages/{package_id}/{source_version}/description"


def manifest(package_id: str, source_version: int) -> str:
    """Where the signed slab manifest is."""
    return f"{ROOT}/packages/{package_id}/{source_version}/manifest"


def blob(digest: str) -> str:
    """Where a blob's bytes are; `digest` is SHA-256 in 64 hexadecimal digits."""
    return f"{ROOT}/blobs/{digest}"


def chunks(digest: str) -> str:
    """Where a blob's chunk index is."""
    return f"{ROOT}/chunks/{digest}"


def parse(path: str) -> Name | None:
    """What a path of the layout names; None for every other path."""
    if not path.startswith(f"{ROOT}/"):
        return None
    match path[len(ROOT) + 1 :].split("/"):
        case ["identity"]:
            return Name(Kind.IDENTITY)
        case ["packages", package_id, "newest"] if PACKAGE_ID.fullmatch(package_id):
            return Name(Kind.NEWEST, package_id)
        case ["packages", package_id, version, ("description" | "manifest") as kind] if PACKAGE_ID.fullmatch(
            package_id
        ) and _is_version(version):
            return Name(Kind(kind), package_id, int(version))
        case ["blobs", digest] if _SHA256.fullmatch(digest):
            return Name(Kind.BLOB, sha256=digest)
        case ["chunks", digest] if _SHA256.fullmatch(digest):
            return Name(Kind.CHUNKS, sha256=digest)
    return None


def _is_version(text: str) -> bool:
    return bool(_VERSION.fullmatch(text)) and int(text) <= MAX_SOURCE_VERSION


def id_of(public_key: bytes) -> str:
    """The id of whoever signs with this key."""
    return sha256(public_key).hexdigest()[:32]


def encode_identity(public_key: bytes) -> bytes:
    """The document under IDENTITY."""
    return _encode({"id": id_of(public_key), "public_key": public_key.hex()})


def decode_identity(document: bytes) -> Identity:
    """Raises ContentCorrupt."""
    fields = _decode("identity", document, {"id", "public_key"})
    key = fields["public_key"]
    if not isinstance(key, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * ed25519.PUBLIC_KEY_BYTES}}}", key):
        raise ContentCorrupt(
            f"identity: public_key is {_shown(key)}, expected {2 * ed25519.PUBLIC_KEY_BYTES} hexadecimal digits"
        )
    public_key = bytes.fromhex(key)
    if fields["id"] != id_of(public_key):
        raise ContentCorrupt(f"identity: id is {_shown(fields['id'])}, expected {id_of(public_key)} for its key")
    return Identity(fields["id"], public_key)


def encode_newest(source_version: int) -> bytes:
    """The document under `newest`."""
    return _encode({"source_version": source_version})


def decode_newest(document: bytes) -> int:
    """Raises ContentCorrupt."""
    version = _decode("newest", document, {"source_version"})["source_version"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_SOURCE_VERSION:
        raise ContentCorrupt(f"newest: source_version is {_shown(version)}, expected 1 to {MAX_SOURCE_VERSION}")
    return version


def max_index_bytes(blob_bytes: int) -> int:
    """What the chunk index of a blob of that size has at the most."""
    return 12 + 36 * (blob_bytes // MIN_CHUNK_BYTES + 1)


def encode_via(ids: tuple[str, ...]) -> str:
    """The header's value."""
    return ", ".join(ids)


def decode_via(value: str) -> tuple[str, ...]:
    """The ids in the header; what is no id is left out, since a proxy may have added its own."""
    found = (each.strip() for each in value.split(","))
    return tuple(each for each in found if _ID.fullmatch(each))


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def _decode(what: str, document: bytes, keys: set[str]) -> dict[str, Any]:
    if len(document) > MAX_SMALL_BYTES:
        raise ContentCorrupt(f"{what}: {len(document)} bytes, expected at most {MAX_SMALL_BYTES}")
    try:
        fields = json.loads(document.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ContentCorrupt(f"{what}: not JSON: {error}") from None
    if not isinstance(fields, dict) or not keys <= fields.keys():
        raise ContentCorrupt(f"{what}: {_shown(fields)}, expected an object with {', '.join(sorted(keys))}")
    return fields


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
