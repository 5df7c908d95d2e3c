# SPDX-License-Identifier: Apache-2.0
"""nats-py's client, which must not speak in plain where TLS is wanted. Imported only where there is a bus."""

from __future__ import annotations

from nats.aio.client import Client

from dpd.errors import BusError


class StrictClient(Client):
    """nats-py takes up TLS where the server asks for it: whoever sits in between could leave that out and read along."""

    def _connect_command(self) -> bytes:
        """What carries the credentials."""
        if not self._server_info.get("tls_required"):
            raise BusError(
                "the server speaks no TLS; set it up there, or take nats:// in bus.url and leave bus.ca_file and bus.certificate out"
            )
        return super()._connect_command()


def make_client(*, must_be_tls: bool) -> Client:
    return StrictClient() if must_be_tls else Client()
