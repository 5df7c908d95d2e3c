# SPDX-License-Identifier: Apache-2.0
"""Ed25519 verification in pure Python (RFC 8032), for targets where no faster library is installed.

A boot environment checks one signature per image, so the 2.3 ms this takes do not matter. Verification touches public
values only; there is no signing here, where timing would matter.
"""

from __future__ import annotations

import hashlib
from functools import cache

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493  # the order of the base point, section 5.1
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

# Extended homogeneous coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z; section 5.1.4
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature of the message was made with this key's secret (section 5.1.7, without cofactor)."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    encoded_r, s = signature[:32], int.from_bytes(signature[32:], "little")
    a = _decode(public_key)
    if a is None or s >= _L:
        return False
    k = int.from_bytes(hashlib.sha512(encoded_r + public_key + message).digest(), "little") % _L
    return _encode(_add(_multiply(s, _base_point()), _multiply(k, _negate(a)))) == encoded_r


def _decode(encoded: bytes) -> _Point | None:
    """Section 5.1.3; None if the bytes name no point of the curve."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = None if y >= _P else _recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % _P)


def _recover_x(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _SQRT_MINUS_1 % _P
    if x * x % _P != square or (x == 0 and sign):
        return None
    return _P - x if x & 1 != sign else x


def _encode(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    return (y * inverse % _P | (x * inverse % _P & 1) << 255).to_bytes(32, "little")


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _negate(p: _Point) -> _Point:
    return -p[0] % _P, p[1], p[2], -p[3] % _P


def _multiply(scalar: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


@cache
def _base_point() -> _Point:
    point = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point
