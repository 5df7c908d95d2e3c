# SPDX-License-Identifier: Apache-2.0
"""A certificate is read again while its listener runs, and one that cannot be used changes nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from tests.service.certificates import write_certificate

from dpd.errors import SettingsError
from dpd.service.certificate import Certificate, read_context


def shake_hands(server: ssl.SSLContext, *, server_hostname: str | None = None) -> str:
    """The subject of the certificate that a client gets."""
    shown = connect(server, _client(), server_hostname).getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).subject.rfc4514_string()


def agreed_suite(server: ssl.SSLContext, suite: str) -> tuple[str, str]:
    """What is agreed on with a client that knows one suite of TLS 1.2 only. Raises ssl.SSLError."""
    client = _client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suite)
    agreed = connect(server, client, None).cipher()
    assert agreed is not None
    return agreed[0], agreed[1]


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(server: ssl.SSLContext, client_context: ssl.SSLContext, server_hostname: str | None) -> ssl.SSLObject:
    """A client after its handshake, in memory, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=server_hostname)
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        finished = []
        for side in (client, serving):
            try:
                side.do_handshake()
                finished.append(side)
            except ssl.SSLWantReadError:
                pass
        if len(finished) == 2:
            break
    return client


@pytest.mark.parametrize("server_hostname", [None, "localhost"], ids=["no server name", "server name"])
def test_new_connections_get_the_certificate_read_last(tmp_path: Path, server_hostname: str | None) -> None:
    pem, key = write_certificate(tmp_path, "dp")
    certificate = Certificate("http", str(pem), str(key))
    listening = certificate.context
    assert shake_hands(listening, server_hostname=server_hostname) == "CN=dp"
    for new, old in zip(write_certificate(tmp_path, "renewed"), (pem, key), strict=True):
        new.rename(old)
    assert shake_hands(listening, server_hostname=server_hostname) == "CN=dp"
    certificate.read_again()
    assert certificate.context is listening
    assert shake_hands(listening, server_hostname=server_hostname) == "CN=renewed"


def test_a_pair_that_does_not_fit_is_told_and_the_old_one_goes_on(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path, "dp")
    certificate = Certificate("http", str(pem), str(key))
    write_certificate(tmp_path, "other")[0].rename(pem)  # half of a renewal
    with pytest.raises(SettingsError, match=r"expected a PEM chain that fits http\.private_key"):
        certificate.read_again()
    assert shake_hands(certificate.context) == "CN=dp"


def test_files_that_cannot_serve_are_told_by_their_setting(tmp_path: Path) -> None:
    pem, key = map(str, write_certificate(tmp_path))
    secret = str(write_certificate(tmp_path, "secret", passphrase=b"x")[1])
    (tmp_path / "empty").touch()
    empty, none = str(tmp_path / "empty"), str(tmp_path / "none")
    for files, problem in {
        (none, key): f'http.certificate = "{none}": no such file',
        (pem, none): f'http.private_key = "{none}": no such file',
        (empty, key): "expected a PEM chain that fits",
        (pem, secret): "the private key has a passphrase",
    }.items():
        with pytest.raises(SettingsError) as caught:
            read_context("http", *files)
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    "suite", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES256-GCM-SHA384"]
)
def test_firmware_of_any_age_finds_a_suite_with_forward_secrecy(tmp_path: Path, suite: str) -> None:
    """EDK2 spoke TLS 1.2 alone for long, and until 2023 without elliptic curves."""
    pem, key = write_certificate(tmp_path, "dp", rsa=True)
    assert agreed_suite(Certificate("http", str(pem), str(key)).context, suite) == (suite, "TLSv1.2")


def test_plain_rsa_is_not_agreed_on(tmp_path: Path) -> None:
    pem, key = write_certificate(tmp_path, "dp", rsa=True)
    with pytest.raises(ssl.SSLError, match=r"NO_SHARED_CIPHER|HANDSHAKE_FAILURE"):
        agreed_suite(Certificate("http", str(pem), str(key)).context, "AES256-GCM-SHA384")
