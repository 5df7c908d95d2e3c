# SPDX-License-Identifier: Apache-2.0
"""`dpd receive`: an image from a distribution point's multicast session into a file.

Exit codes: 0 complete, 1 failed, 2 wrong usage, 3 no such content, 4 distribution point or multicast out of reach,
5 the content is not what its manifest says, 130 interrupted. A run that failed goes on where it was when run again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dpd.content.manifest import Manifest, decode_signed
from dpd.errors import ContentCorrupt, ContentNotFound, DpdError, SessionError
from dpd.protocol.multicast.geometry import SLAB_BYTES, Geometry, encode_slab_set
from dpd.protocol.multicast.receiver import SessionFact
from dpd.service.isal import best_codec
from dpd.service.receiver import Progress, ReceiverSession, granted_credit, open_group
from dpd.service.udp import interface_address
from dpd.target.distribution_point import DistributionPoint, Unicast, Unreachable
from dpd.target.progress import Display
from dpd.target.slab_store import SlabStore

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_CORRUPT, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130
FIRST_RETRY_S, MAX_RETRY_S = 0.5, 10.0
MAX_DAMAGED = 8  # slabs in a row that are not what the manifest says: then it is not the network that damages them
EXAMPLE = "example: dpd receive http://dp:8080 LAB00001 -o install.wim --interface eth0"


class Patience:
    """Keeps trying while something moves: raises when `limit_s` passed without progress. Waits grow, with jitter."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._rng = random.Random()
        self.reset()

    def reset(self) -> None:
        self._moved_at = time.monotonic()
        self._wait_s = FIRST_RETRY_S

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._moved_at > self._limit_s

    def wait(self, error: DpdError) -> None:
        """Sleep before the next try, or raise `error` when patience would be over by then."""
        if time.monotonic() - self._moved_at + self._wait_s > self._limit_s:
            raise error
        time.sleep(self._wait_s * (0.5 + self._rng.random() / 2))
        self._wait_s = min(self._wait_s * 2, MAX_RETRY_S)


class Reception:
    """One image on its way from a distribution point to a file, over as many sessions as it takes."""

    def __init__(self, options: argparse.Namespace, display: Display) -> None:
        self._point = DistributionPoint(options.url, options.ca_file)
        self._package_id: str = options.package
        self._output = Path(options.output)
        self._interface: str = options.interface
        self._slots: int = options.slots
        self._display = display
        self._patience = Patience(options.patience)
        self._public_key = bytes.fromhex(options.public_key) if options.public_key else None
        self._version: int | None = options.source_version
        self._verified_slabs = -1
        self._damaged_before = 0

    def run(self) -> None:
        """Return when the file is complete under its name. Raises DpdError."""
        try:
            self._run(self._fetch_manifest())
        finally:
            self._point.close()

    def _run(self, manifest: Manifest) -> None:
        store = SlabStore(self._output, manifest)
        try:
            geometry = Geometry(manifest.size_bytes)
            self._display.tell(
                "resuming" if store.verified else "starting",
                verified_slabs=store.verified.bit_count(),
                of=manifest.slab_count,
            )
            verified = store.verified
            if verified == geometry.every_slab:  # killed between its last slab and its name
                store.finish()
            while verified != geometry.every_slab:
                verified = self._receive(manifest, geometry, store, verified)
        finally:
            store.close()

    def _fetch_manifest(self) -> Manifest:
        while True:
            try:
                document = self._point.fetch_manifest(self._package_id, self._version)
                break
            except Unreachable as error:
                self._display.tell("waiting", reason=str(error))
                self._patience.wait(error)
        manifest = decode_signed(document, self._public_key)
        wanted = (self._package_id, self._version if self._version is not None else manifest.source_version)
        if (manifest.package_id, manifest.source_version) != wanted:
            raise ContentCorrupt(
                f"manifest: of {manifest.package_id} version {manifest.source_version}, expected {wanted[0]} version {wanted[1]}; "
                "does something between here and the distribution point keep old answers?"
            )
        if manifest.slab_bytes != SLAB_BYTES:
            raise ContentCorrupt(f"manifest: slabs of {manifest.slab_bytes} bytes, this receiver knows {SLAB_BYTES}")
        return manifest

    def _receive(self, manifest: Manifest, geometry: Geometry, store: SlabStore, verified: int) -> int:
        """One session. Returns the slabs verified by its end."""
        try:
            address = interface_address(self._interface) if self._interface else self._point.local_address()
            session_id, session = self._join(manifest, geometry, store, verified, address)
        except (Unreachable, SessionError) as error:
            self._display.tell("waiting", reason=str(error))
            self._patience.wait(error)
            return verified
        fact = session.run()
        machine = session.machine
        if machine.verified != verified:
            self._patience.reset()
        if machine.is_finished:
            store.finish()  # before the distribution point counts it, and before a lost packet can delay that
            counted = {
                "lost": machine.counters.lost,
                "socket_drops": machine.counters.socket_drops,
                "repairs": machine.counters.repairs,
            }
            try:
                self._point.complete(session_id, machine.member, counted)
            except DpdError as error:  # the file is whole; the daemon will notice the silence
                self._display.tell("not counted", reason=str(error))
        else:
            self._display.tell("session lost", reason=fact.value)
            self._patience.wait(_explain(fact, self._point.url, machine.counters.symbols))
        return machine.verified

    def _join(
        self, manifest: Manifest, geometry: Geometry, store: SlabStore, verified: int, address: str
    ) -> tuple[str, ReceiverSession]:
        slab_set = encode_slab_set(verified, geometry.slab_count)
        session_id, membership = self._point.join(
            manifest.package_id, manifest.source_version, verified=slab_set, credit=granted_credit(), slots=self._slots
        )
        if isinstance(membership, Unicast):
            raise SessionError(f"{self._point.url}: no place in the session: {membership.reason}")
        session = ReceiverSession(
            membership=membership,
            group_socket=open_group(membership.group, membership.port, address),
            geometry=geometry,
            verified=verified,
            slots=self._slots,
            store=store,
            codec=best_codec(),
            on_progress=self._watch,
        )
        self._display.tell("joined", session=session_id, group=membership.group, port=membership.port)
        return session_id, session

    def _watch(self, progress: Progress) -> None:
        """Show where it is. Raises Unreachable or ContentCorrupt when datagrams come and come, and nothing gets better."""
        self._display.show(progress)
        counters = progress.counters
        self._damaged_before = min(self._damaged_before, counters.bad_slabs)  # each session counts from 0
        if progress.verified_slabs != self._verified_slabs:
            self._verified_slabs, self._damaged_before = progress.verified_slabs, counters.bad_slabs
            self._patience.reset()
        elif counters.bad_slabs - self._damaged_before >= MAX_DAMAGED:
            raise ContentCorrupt(
                f"{self._point.url}: slab after slab of {self._package_id} is not what its manifest says; "
                f"`dpd content verify {self._package_id}` there tells where it is damaged"
            )
        elif self._patience.is_over:
            raise Unreachable(
                f"{self._point.url}: no slab could be completed within --patience, though the session goes on; "
                f"{counters.lost} datagrams were lost: is --patience shorter than a slab of {SLAB_BYTES} bytes takes?"
            )


def _explain(fact: SessionFact, url: str, symbols: int) -> DpdError:
    if fact is SessionFact.SILENT and not symbols:
        return Unreachable(
            f"{url}: joined, but no multicast datagram arrives; check that the switch passes multicast (IGMP snooping needs a "
            "querier), that no firewall drops UDP, and --interface"
        )
    return Unreachable(f"{url}: {fact.value}")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse, since this must run where nothing is installed."""
    parser = argparse.ArgumentParser(prog="dpd receive", description="Receive an image by multicast.", epilog=EXAMPLE)
    parser.add_argument("url", help="the distribution point, such as http://dp:8080")
    parser.add_argument("package", help="the package id, such as LAB00001")
    parser.add_argument(
        "-o", "--output", required=True, help="the file to write; .part and .journal stand beside it meanwhile"
    )
    parser.add_argument("--source-version", type=int, help="default: the newest")
    parser.add_argument("--interface", default="", help="default: the one that reaches the distribution point")
    parser.add_argument(
        "--ca-file", default="", help="PEM file of the authority behind an https address; default: the system's"
    )
    parser.add_argument("--public-key", default="", help="64 hex digits: only a manifest signed by this key is taken")
    parser.add_argument(
        "--slots", type=int, default=16, help="slabs of 5.5 MiB assembled at once, 4 to 64 (default 16)"
    )
    parser.add_argument(
        "--patience", type=float, default=600.0, help="seconds without progress before giving up (default 600)"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines, as when standard error is not a terminal")
    options = parser.parse_args(arguments)
    if not 4 <= options.slots <= 64:
        parser.error(f"--slots {options.slots}: expected 4 to 64")
    try:
        if options.public_key and len(bytes.fromhex(options.public_key)) != 32:
            raise ValueError
    except ValueError:
        parser.error("--public-key: expected 64 hex digits")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    display = Display(options.package, as_json=options.json or not sys.stderr.isatty())
    started = time.monotonic()
    try:
        Reception(options, display).run()
    except KeyboardInterrupt:
        display.tell("interrupted", next="run the same command again to go on")
        return EXIT_INTERRUPTED
    except DpdError as error:
        display.tell("failed", reason=str(error))
        return _exit_code(error)
    display.tell("completed", output=options.output, seconds=round(time.monotonic() - started, 3))
    return 0


def _exit_code(error: DpdError) -> int:
    if isinstance(error, ContentNotFound):
        return EXIT_NOT_FOUND
    if isinstance(error, Unreachable):
        return EXIT_UNREACHABLE
    return EXIT_CORRUPT if isinstance(error, ContentCorrupt) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
