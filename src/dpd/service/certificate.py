# SPDX-License-Identifier: Apache-2.0
"""The certificate of a TLS listener: read at the start, and again whenever it was renewed, without a restart."""

from __future__ import annotations

import os
import ssl

from dpd.errors import SettingsError

# RFC 7919 section A.1. Python's ssl cannot be told to choose by itself.
FFDHE2048 = b"""-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


class Certificate:
    """A chain and its key. `context` is for the listener and stays the same; new connections get what was read last.

    A context in use is never changed, since handshakes of another thread use it: each reading makes a new one, and the
    listener's hands each connection over to the latest (OpenSSL asks at every handshake, with a server name or without).
    """

    def __init__(self, table: str, certificate: str, private_key: str, client_ca_file: str = "") -> None:
        """The files that [table] names. With a client_ca_file, clients may show a certificate, which must then be of that
        authority. Raises SettingsError."""
        self._files = (table, certificate, private_key, client_ca_file)
        self.context = self._latest = read_context(*self._files)
        self.context.sni_callback = self._hand_over

    def read_again(self) -> None:
        """After a renewal. Raises SettingsError, and the old one goes on."""
        self._latest = read_context(*self._files)

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._latest


def read_context(table: str, certificate: str, private_key: str, client_ca_file: str = "") -> ssl.SSLContext:
    """A server's context for TLS 1.2 and later. Raises SettingsError that names the key in [table]."""
    for key, path in (("certificate", certificate), ("private_key", private_key)):
        if not os.access(path, os.R_OK):
            raise SettingsError(f'{table}.{key} = "{path}": no such file, or not readable by dpd')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # else one client could have us sign for ever on one connection
    context.set_alpn_protocols(["http/1.1"])
    _offer_finite_field(context)
    try:
        context.load_cert_chain(certificate, private_key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(
            f'{table}.certificate = "{certificate}": expected a PEM chain that fits {table}.private_key, without a passphrase: {error}'
        ) from None
    if client_ca_file:
        _ask_for_certificates(context, table, client_ca_file)
    return context


def _ask_for_certificates(context: ssl.SSLContext, table: str, client_ca_file: str) -> None:
    """A connection that resumes another would go on with a certificate that a newer authority may not have issued, so
    none is invited to."""
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_verify_locations(cafile=client_ca_file)
    except OSError as error:
        raise SettingsError(
            f'{table}.client_ca_file = "{client_ca_file}": expected a PEM file with certificates of authorities: {error.strerror or error}'
        ) from None


def _offer_finite_field(context: ssl.SSLContext) -> None:
    """DHE beside ECDHE: EDK2 was built without elliptic curves (OVMF 2022.11 offers DHE-RSA and plain RSA alone), and plain
    RSA would let whoever gets the key later read what was recorded."""
    descriptor = os.memfd_create("dpd-ffdhe", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, FFDHE2048)
        context.load_dh_params(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _no_password() -> str:
    """OpenSSL would ask on the terminal; a daemon has none."""
    raise ValueError("the private key has a passphrase")
