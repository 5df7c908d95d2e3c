# SPDX-License-Identifier: Apache-2.0
"""What a process of dpd does between its start and its end, whatever it serves: the loop, READY, the watchdog, the drain, and the
page that Prometheus reads."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from dpd import __version__
from dpd.control.access.listener import bind_tcp, serve
from dpd.errors import SettingsError
from dpd.settings import Settings
from dpd.telemetry import log as logs
from dpd.telemetry.metrics import CONTENT_TYPE, LoopLag, MetricsRegistry, watch_loop_lag
from dpd.telemetry.systemd import sd_notify, watchdog_interval_s

log = logging.getLogger(__name__)

STOP_MARGIN_S = 30.0  # systemd waits this much longer than the drain before it kills

Drained: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Running(Protocol):
    """The operations of what runs, as far as its beginning and end go."""

    settings: Settings
    state: str
    draining: asyncio.Event
    ending: asyncio.Event


def run_in_loop(settings: Settings, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Set up the log and run on uvloop where it is installed. Raises DpdError where the start fails."""
    logs.setup(settings.daemon.log_format, settings.daemon.log_level)
    gc.freeze()  # 66,000 objects of imported modules: to look through them stopped both loops for tens of milliseconds
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def run_until_drained(
    running: Running, ports: Mapping[str, Mapping[str, int]], drained: Drained, loop_lag: LoopLag
) -> None:
    """Say READY, beat the watchdog, wait for the end and drain. `ports` is what each listener has."""
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(watch_loop_lag(loop_lag))]
        interval_s = watchdog_interval_s()
        if interval_s is not None:
            background.append(tasks.create_task(_beat(interval_s)))
        _say_ready(running, ports)
        await running.draining.wait()
        await _drain(running, drained)
        for task in background:
            task.cancel()


def _say_ready(running: Running, ports: Mapping[str, Mapping[str, int]]) -> None:
    if not running.draining.is_set():
        running.state = "ready"
    shown = ", ".join(" ".join([name, *map(str, numbers.values())]) for name, numbers in ports.items() if numbers)
    sd_notify(f"READY=1\nSTATUS=serving {shown}")
    log.info("ready", extra={"version": __version__, "pid": os.getpid(), "settings": running.settings.path, "serving": shown})  # fmt: skip


async def _drain(running: Running, everything_drained: Drained) -> None:
    """Let what runs end, for as long as the settings allow or until a second signal."""
    timeout_s = running.settings.daemon.drain_timeout_s
    log.info("draining", extra={"timeout_s": timeout_s})
    stop_usec = int((timeout_s + STOP_MARGIN_S) * 1e6)
    sd_notify(f"STOPPING=1\nSTATUS=draining for at most {timeout_s:g} s\nEXTEND_TIMEOUT_USEC={stop_usec}")
    async with asyncio.TaskGroup() as tasks:
        drained = tasks.create_task(everything_drained())
        ending = tasks.create_task(running.ending.wait())
        await asyncio.wait([drained, ending], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            cause = "second signal" if ending.done() else "drain timeout"
            log.warning("ending with work under way", extra={"cause": cause})
        drained.cancel()
        ending.cancel()


async def _beat(interval_s: float) -> None:
    """As long as the loop runs this, systemd knows that it is alive."""
    while True:
        sd_notify("WATCHDOG=1", wait=False)
        await asyncio.sleep(interval_s)


def check_state_dir(path: Path) -> None:
    """Raises SettingsError where dpd cannot keep anything there."""
    wrong = f'daemon.state_dir = "{path}"'
    if not os.path.isdir(path):  # unlike Path.is_dir, False too where a parent may not be searched
        raise SettingsError(f"{wrong}: no such directory; make it with `install -d -m 750 {path}`, as the user of dpd")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise SettingsError(f"{wrong}: not writable by user {os.geteuid()}; `chown` it to the user of dpd")


async def serve_metrics(stack: AsyncExitStack, endpoint: str, registry: MetricsRegistry) -> None:
    """The page of /metrics until the stack unwinds. Raises ServiceError."""

    async def page(request: web.Request) -> web.Response:
        text = await asyncio.to_thread(registry.render)  # 24 ms for 2000 series would hold PXE answers up
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", page)
    sock = bind_tcp(endpoint, "metrics")
    stack.callback(sock.close)
    await serve(stack, application, sock)
