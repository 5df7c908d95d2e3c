# SPDX-License-Identifier: Apache-2.0
"""nats-py's client, which must not speak in plain where TLS is wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bus.site_side import until

from dpd.bus.connection import BusConnection
from dpd.bus_settings import BusSettings


async def test_no_credentials_go_to_a_server_that_offers_no_tls(tmp_path: Path) -> None:
    """Such as somebody in between, who has left the server's wish for TLS out."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"auth_required":true}\r\n')
        heard.extend(await reader.read(4096))
        writer.close()

    token = tmp_path / "token"
    token.write_text("secret-token-0123456789")
    token.chmod(0o600)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = BusConnection(BusSettings(url=f"tls://127.0.0.1:{port}", token_file=str(token)), name="test")
    async with server, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(connection.run([]))
        await until(lambda: "speaks no TLS" in connection.trouble, "the refusal")
        running.cancel()
    assert b"secret" not in heard
    assert b"CONNECT" not in heard
