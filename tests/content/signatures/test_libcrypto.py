# SPDX-License-Identifier: Apache-2.0
"""The system's libcrypto is found where Python uses one, and its absence is an answer and no error."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from dpd.content.signatures import libcrypto


def test_it_is_found_where_python_has_openssl() -> None:
    if ssl.OPENSSL_VERSION_INFO < (1, 1, 1):
        pytest.skip(f"{ssl.OPENSSL_VERSION} has no Ed25519")
    library = libcrypto.load()
    assert library is not None
    assert library.EVP_DigestVerify.argtypes


@pytest.fixture
def forgetful() -> Iterator[None]:
    libcrypto.load.cache_clear()
    yield
    libcrypto.load.cache_clear()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("names", [(), ("libdoes-not-exist.so.1",), ("libc.so.6",)], ids=["none", "missing", "another"])
def test_a_library_that_is_missing_or_another_is_none(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    monkeypatch.setattr(libcrypto, "_SONAMES", names)
    assert libcrypto.load() is None
