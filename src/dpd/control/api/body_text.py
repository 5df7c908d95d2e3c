# SPDX-License-Identifier: Apache-2.0
"""A request's body that is a text of its own, such as a CSV file or a declaration: all of it, within a bound."""

from __future__ import annotations

from aiohttp import web

from dpd.control.api.refusals import RequestRefused


async def read_text(request: web.Request, max_bytes: int, next_step: str = "send less") -> str:
    """Raises RequestRefused for one that is larger, or no UTF-8."""
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise RequestRefused(f"body: larger than {max_bytes} bytes; {next_step}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestRefused(
            f"body: not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}; save the file as UTF-8"
        ) from None
