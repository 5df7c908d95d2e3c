# SPDX-License-Identifier: Apache-2.0
"""What the page is shown with: a LAN with `dpd serve` and a lease server, machines that boot there as firmware does, and a
Chromium on the server's own host, where tokens may be typed in without TLS."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bench.netns import DEVICE, Host, Lan
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, sync_playwright
from tests.boot.signing import make_pe
from tests.interop.boot_wire import BootWire
from tests.interop.daemon import Daemon
from tests.interop.lease_server import start_dnsmasq
from tests.interop.site_stage import BOOT_SETTINGS, SiteServerProcess
from tests.nats_server import NatsServer
from tests.protocol.pxe.models import Boot, Firmware

from dpd.control.access.callers import Role
from dpd.control.access.roles_file import add_token
from dpd.protocol.pxe.client import PxeClient
from dpd_probe.client import Target, Told
from dpd_probe.fetch import fetch
from dpd_probe.steps import Account

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
ORIGIN = "http://127.0.0.1:8090"
PATIENCE_MS = 30_000
IMAGE = "LAB1"
DEPLOY = ("deployment", "add", "--all", "--boot-image", IMAGE, "--required", "--confirm", "0")
SITE, POINT = "lab", "branch-1"
LOADER = make_pe(filler=b"\xc3" * 5000)

CONSOLE = """
[console]
listen = "0.0.0.0:8090"
anonymous = true
"""

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTHS = (400, 700, 1280, 1600)
TEXT_CONTRAST = 4.5  # WCAG 2.2, 1.4.3

# The contrast of each visible piece of text with what lies under it, and the text.
CONTRASTS = """
() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("script")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(ground(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([Math.round(contrast * 100) / 100, walker.currentNode.textContent.trim().slice(0, 60)]);
  }
  return found;
}
"""


def check_looks(page: Page) -> None:
    """In both schemes and at every width each text stands out from its ground, and nothing hangs over the edge."""
    for scheme, width in itertools.product(SCHEMES, WIDTHS):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 20
        assert [each for each in contrasts if each[0] < TEXT_CONTRAST] == [], (scheme, width)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (scheme, width)


@dataclass
class Stage:
    """`tokens` by role; `problems` is what the pages' consoles have complained of."""

    lan: Lan
    dpd: Daemon
    browser: Browser
    roles: Path
    tokens: dict[Role, str]
    problems: list[str] = field(default_factory=list)
    last: int = 0

    def new_mac(self) -> str:
        self.last += 1
        return f"52:54:00:90:00:{self.last:02x}"

    def page(self, role: Role | None = None, origin: str = ORIGIN, **context: Any) -> AbstractContextManager[Page]:
        """The page in a window of its own, as somebody who has signed in with this role."""
        return window(self.browser, self.tokens[role] if role is not None else "", self.problems, origin, **context)

    def boot(self, mac: str, *, vendor_class: bytes = b"") -> tuple[Boot | None, str]:
        """Power a machine on: what its firmware is told to load, and the address that it then has."""
        client = self.lan["client"]
        client.run("ip", "address", "flush", "dev", DEVICE)
        with closing(BootWire(client, expected_offers=2)) as wire:
            return Firmware(PxeClient(mac), vendor_class=vendor_class).boot(wire), wire.address

    def fetch(self, boot: Boot, address: str, file: str = "") -> int:
        """The machine's TFTP, from its own address. Raises ProbeError."""
        with self.lan["client"].inside():
            told = Told(boot.server, file or boot.file, True)
            return fetch(told, Target(relay=address, timeout_s=0.5), Account()).size_bytes

    def ask(self, path: str) -> Any:
        """What the daemon's own socket says to GET; twenty times as quick as the `dpd` command."""
        return json.loads(self.lan["dpd"].run("curl", "-sf", "--unix-socket", self.dpd.socket, f"http://dpd{path}"))


@contextmanager
def window(browser: Browser, token: str, problems: list[str], origin: str = ORIGIN, **context: Any) -> Iterator[Page]:
    """The page in a window of its own; what its console complains of is added to `problems`."""

    def note(message: ConsoleMessage) -> None:
        """Answers that refuse and a server that is away are what the tests ask for; all else is a fault of the page."""
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            problems.append(message.text)

    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | context
    with closing(browser.new_context(**options)) as opened:
        if token:
            opened.add_init_script(f"sessionStorage.setItem('dpd-token', '{token}')")
        page = opened.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(origin)
        yield page


@contextmanager
def site_staged(directory: Path) -> Iterator[Stage]:
    """The same with a site server, whose page is the one that is looked at; `dpd` is its point branch-1."""
    with ExitStack() as stack:
        lan = stack.enter_context(Lan("dpd", "lease", "client", without_address=("client",)))
        wrapper = lan["dpd"].command()
        nats = stack.enter_context(NatsServer(directory / "nats", port=4222, leaf_port=7422, wrapper=wrapper))
        bus = f'\n[bus]\nurl = "{nats.url}"\nsite = "{SITE}"\n'
        roles = make_roles(directory)
        settings = '[metrics]\nlisten = ""\n' + CONSOLE + bus
        site = stack.enter_context(SiteServerProcess(directory / "site", settings, lan["dpd"], known_by(roles[0])))
        site.tell(*DEPLOY)
        yield stack.enter_context(staged(directory, lan, roles, f'{bus}point = "{POINT}"\n'))


def make_roles(directory: Path) -> tuple[Path, dict[Role, str]]:
    """The file, and the tokens that it knows, by role."""
    path = directory / "roles.toml"
    return path, {role: add_token(path, f"lab {role}", role) for role in Role}


def known_by(roles: Path) -> str:
    """For [control]: the file of those who may sign in."""
    return f'roles_file = "{roles}"\n'


@contextmanager
def alone_staged(directory: Path) -> Iterator[Stage]:
    """One daemon and its own page, until the block ends."""
    with (
        Lan("dpd", "lease", "client", without_address=("client",)) as lan,
        staged(directory, lan, make_roles(directory), CONSOLE) as stage,
    ):
        stage.dpd.tell(*DEPLOY)
        yield stage


@contextmanager
def staged(directory: Path, lan: Lan, people: tuple[Path, dict[Role, str]], more: str) -> Iterator[Stage]:
    """The daemon with these settings besides, a lease server, and a browser."""
    with ExitStack() as stack:
        start_dnsmasq(lan["lease"], directory)
        roles, tokens = people
        dpd = stack.enter_context(Daemon(directory, prepare(directory) + more, lan["dpd"], known_by(roles)))
        dpd.tell("boot-image", "add", "--efi", directory / "winpe.efi", "--id", IMAGE)
        playwright = stack.enter_context(sync_playwright())
        browser = stack.enter_context(chromium_at(lan["dpd"], directory / "chromium", playwright))
        yield Stage(lan, dpd, browser, roles, tokens)


def prepare(directory: Path) -> str:
    """Boot files, and the settings that name them."""
    boot = directory / "boot"
    boot.mkdir()
    for path in (boot / "ipxe.efi", directory / "winpe.efi"):
        path.write_bytes(LOADER)
    return f'{BOOT_SETTINGS.format(boot=boot)}default_image = "{IMAGE}"\n'


def chromium_at(host: Host, program: Path, playwright: Playwright) -> AbstractContextManager[Browser]:
    """Chromium in this host's namespace, by a program that is written for it; Playwright speaks with it through pipes."""
    command = " ".join(host.command(shutil.which(CHROMIUM) or CHROMIUM))
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="ascii")
    program.chmod(0o755)
    return closing(playwright.chromium.launch(executable_path=program, args=list(FLAGS), headless=True))
