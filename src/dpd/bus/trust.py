# SPDX-License-Identifier: Apache-2.0
"""How the bus is known and how dpd is known to it: TLS, credentials, token; read anew for each connection, so a renewed file
counts without a restart."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

from dpd.bus.credentials import read_credentials
from dpd.bus_settings import BusSettings
from dpd.errors import SettingsError
from dpd.token_file import read_token_file


def demands_tls(settings: BusSettings) -> bool:
    """Whether anything of the settings says TLS."""
    return bool(settings.url.startswith("tls://") or settings.ca_file or settings.certificate)


def client_tls(settings: BusSettings) -> ssl.SSLContext | None:
    """None where the settings say nothing of TLS. Raises SettingsError."""
    if not demands_tls(settings):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(
            f'bus.ca_file = "{settings.ca_file}": expected a PEM file with certificates: {error}'
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate:
        _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: BusSettings) -> None:
    for key, path in (("certificate", settings.certificate), ("private_key", settings.private_key)):
        if not os.access(path, os.R_OK):
            raise SettingsError(f'bus.{key} = "{path}": no such file, or not readable by dpd')
    try:
        context.load_cert_chain(settings.certificate, settings.private_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f'bus.certificate = "{settings.certificate}": expected a PEM chain that fits bus.private_key, without a passphrase: {error}'
        ) from None


def _no_password() -> str:
    """OpenSSL would ask on the terminal; a daemon has none."""
    raise ValueError("the private key has a passphrase")


def read_secrets(settings: BusSettings) -> dict[str, Any]:
    """What nats-py's `connect` takes. Raises SettingsError, which shows nothing of it."""
    options: dict[str, Any] = {}
    if settings.credentials_file:
        credentials = read_credentials(Path(settings.credentials_file))
        options |= {"user_jwt_cb": credentials.jwt, "signature_cb": credentials.sign}
    if settings.token_file:
        hint = "it holds the token of the NATS server, or the user's password"
        secret = read_token_file(Path(settings.token_file), "bus.token_file", hint=hint)
        options |= {"user": settings.user, "password": secret} if settings.user else {"token": secret}
    return options
