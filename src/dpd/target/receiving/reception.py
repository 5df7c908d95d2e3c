# SPDX-License-Identifier: Apache-2.0
"""One image on its way from a distribution point to a file, over as many sessions as it takes.

    join ──▶ a place in the group ──▶ listen; where the group is not heard or too slow, HTTP beside it
         └─▶ no such place ─────────▶ HTTP alone

However a place ends, what was verified stays: the next join says what is there, and asks for the rest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from dpd.content.manifest import Manifest, decode_signed
from dpd.errors import ContentCorrupt, DpdError, SessionError
from dpd.protocol.multicast.geometry import SLAB_BYTES, Geometry, encode_slab_set
from dpd.protocol.multicast.receiver import ReceiverCounters, SessionFact
from dpd.service.isal import best_codec
from dpd.service.network.udp import interface_index, receiving_address
from dpd.service.receiving.receiver import Membership, Progress, ReceiverSession, granted_credit, open_group
from dpd.target.distribution_point.connection import Connection, Unreachable
from dpd.target.distribution_point.distribution_point import DistributionPoint, Unicast, content_path
from dpd.target.distribution_point.patience import Patience
from dpd.target.receiving.account import Account
from dpd.target.receiving.fall_back import FallBack
from dpd.target.receiving.progress import PROGRESS_S, Display
from dpd.target.receiving.slab_store import SlabStore
from dpd.target.receiving.switch_over import SwitchOver
from dpd.target.receiving.unicast import Herald, JoinAnew, SlabFetcher, UnicastSource

MAX_DAMAGED = 8  # slabs in a row that are not what the manifest says: then it is not the network that damages them


class Kicked(DpdError):
    """The distribution point serves this receiver no more."""


class Reception:
    """One run of the command; `opened` is given the store before anything is received into it."""

    def __init__(
        self,
        options: argparse.Namespace,
        display: Display,
        opened: Callable[[SlabStore], object] = lambda store: None,
    ) -> None:
        self._opened = opened
        self._point = DistributionPoint(options.url, options.ca_file)
        self._package_id: str = options.package
        self._output = Path(options.output)
        self._interface: str = options.interface
        self._slots: int = options.slots
        self._display = display
        self._patience = Patience(options.patience)
        self._public_key = bytes.fromhex(options.public_key) if options.public_key else None
        self._version: int | None = options.source_version
        self._member = ""  # as 16 hex digits, of the latest join
        self._verified_slabs = -1
        self._damaged_before = 0

    def run(self) -> dict[str, int]:
        """Return when the file is complete under its name, with the bytes by where they came from. Raises DpdError."""
        with closing(self._point):
            self._manifest = self._fetch_manifest()
            self._geometry = Geometry(self._manifest.size_bytes)
            self._store = SlabStore(self._output, self._manifest)
            with closing(self._store):
                self._opened(self._store)
                return self._fill()

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

    def _fill(self) -> dict[str, int]:
        self._verified = self._store.verified
        told = "resuming" if self._verified else "starting"
        self._display.tell(told, verified_slabs=self._verified.bit_count(), of=self._manifest.slab_count)
        self._account = Account(Progress.of(self._geometry, self._verified, 0.0, ReceiverCounters()).verified_bytes)
        if self._is_whole:  # killed between its last slab and its name
            self._store.finish()
        while not self._is_whole:
            self._take_part()
        return self._account.sources(self._manifest.size_bytes)

    @property
    def _is_whole(self) -> bool:
        return self._verified == self._geometry.every_slab

    # ---- one place in the session

    def _take_part(self) -> None:
        """From a join until its place is of no more use, or until the image is whole."""
        try:
            address = receiving_address(self._interface) if self._interface else self._point.local_address()
            session_id, place = self._join()
            if isinstance(place, Unicast):
                self._fetch_rest(session_id, place.member, place.reason)
            else:
                self._listen(session_id, place, address)
        except JoinAnew as reason:
            self._display.tell("joining anew", reason=str(reason))
            self._patience.wait(reason)
        except (Unreachable, SessionError) as error:
            self._display.tell("waiting", reason=str(error))
            self._patience.wait(error)

    def _join(self) -> tuple[str, Membership | Unicast]:
        slab_set = encode_slab_set(self._verified, self._geometry.slab_count)
        manifest = self._manifest
        session_id, place = self._point.join(
            manifest.package_id,
            manifest.source_version,
            verified=slab_set,
            credit=granted_credit(),
            slots=self._slots,
            member=self._member,
            ciphers=self._ciphers(),
        )
        self._member = f"{place.member:016x}"
        return session_id, place

    def _ciphers(self) -> tuple[str, ...]:
        """What this machine can open; without TLS nobody hands out a key."""
        if not self._point.is_secure:
            return ()
        from dpd.service.sealing import CIPHER, available

        return (CIPHER,) if available() else ()

    def _listen(self, session_id: str, place: Membership, address: str) -> None:
        session = self._open_session(session_id, place, address)
        now = time.monotonic()
        starts_at = now + (place.starts_in_s or 0.0)
        switch = SwitchOver(
            session,
            FallBack(place.floor_kib_s, place.starts_in_s, now),
            lambda: UnicastSource(self._point, self._manifest, self._store, session, session_id),
        )

        def watch(progress: Progress) -> None:
            if reason := switch.watch():
                self._display.tell("unicast", session=session_id, reason=reason)
            progress.is_unicast, progress.unicast_bytes = switch.is_unicast, switch.fetched_bytes
            progress.speed_class = place.speed_class
            progress.starts_in_s = max(0.0, starts_at - time.monotonic())
            self._watch(progress)

        session.on_progress = watch
        try:
            fact = session.run()
        finally:
            switch.close()
            self._end_place(
                session.machine.verified | switch.fetched_slabs, session.machine.counters, switch.fetched_bytes
            )
        self._take_fact(fact, session_id, session.machine.member, session.machine.counters.symbols)

    def _open_session(self, session_id: str, place: Membership, address: str) -> ReceiverSession:
        if self._public_key is not None and place.public_key not in (b"", self._public_key):
            raise ContentCorrupt(
                f"{self._point.url}: its session is signed by the key {place.public_key.hex()}, expected {self._public_key.hex()}"
            )
        sender, port = place.feedback
        if sender.startswith("fe80:") and "%" not in sender:  # means something on the link of the group alone
            place = replace(place, feedback=(f"{sender}%{interface_index(address)}", port))
        session = ReceiverSession(
            membership=place,
            group_socket=open_group(place.group, place.port, address, place.source),
            geometry=self._geometry,
            verified=self._verified,
            slots=self._slots,
            store=self._store,
            codec=best_codec(),
            on_progress=self._watch,
            fetch_leaves=self._fetch_leaves,
        )
        self._tell_joined(session_id, place)
        return session

    def _tell_joined(self, session_id: str, place: Membership) -> None:
        fields: dict[str, object] = {"group": place.group, "port": place.port, "class": place.speed_class}
        if place.starts_in_s:
            fields["starts_in_s"] = round(place.starts_in_s, 1)
        if place.waiting:
            fields["waiting"] = place.waiting
        self._display.tell("joined", session=session_id, **fields)

    def _take_fact(self, fact: SessionFact, session_id: str, member: int, symbols: int) -> None:
        """What comes after a session that said how it ended."""
        if self._is_whole:
            self._finish(session_id, member)
        elif fact is SessionFact.MOVED:
            self._account.moves += 1
            self._display.tell("moved", reason=fact.value)
        elif fact is SessionFact.FALL_BACK:
            self._fetch_rest(session_id, member, fact.value)
        elif fact is SessionFact.KICKED:
            raise Kicked(
                f"{self._point.url}: serves this receiver no more: it was taken out by hand, or stored too little for "
                "multicast.disconnect_below_kib_s; what is verified is kept: run the same command again to go on"
            )
        else:
            self._display.tell("session lost", reason=fact.value)
            self._patience.wait(_explain(fact, self._point.url, symbols))

    def _finish(self, session_id: str, member: int) -> None:
        self._store.finish()  # before the distribution point counts it, and before a lost packet can delay that
        try:
            self._point.complete(session_id, member, self._account.statistics())
        except DpdError as error:  # the file is whole; the daemon will notice the silence
            self._display.tell("not counted", reason=str(error))

    def _end_place(self, verified: int, counters: ReceiverCounters, unicast_bytes: int) -> None:
        if verified | self._verified != self._verified:
            self._patience.reset()
        self._verified |= verified
        self._damaged_before -= counters.bad_slabs  # each place counts from 0, and what is damaged stays so in the next
        self._account.add(counters, unicast_bytes)

    # ---- HTTP

    def _fetch_rest(self, session_id: str, member: int, reason: str) -> None:
        """All that is missing over HTTP alone."""
        self._display.tell("unicast", session=session_id, reason=reason)
        with closing(self._point.open_connection()) as connection:
            rest = _Rest(self, connection, session_id, member)
            try:
                rest.fetch()
            finally:
                self._store.sync()
                self._end_place(rest.verified, rest.counters, rest.fetcher.fetched_bytes)
        self._finish(session_id, member)

    def _fetch_leaves(self, slab: int) -> bytes | None:
        """On a connection of its own, since workers ask; None where they cannot be had now."""
        path = f"{content_path(self._manifest.package_id, self._manifest.source_version)}/leaves/{slab}"
        with closing(self._point.open_connection()) as connection:
            try:
                return connection.ask("GET", path)
            except DpdError:
                return None

    # ---- for whoever watches

    def _watch(self, progress: Progress) -> None:
        """Show where it is. Raises Unreachable or ContentCorrupt when datagrams come and come, and nothing gets better."""
        progress.unicast_bytes += self._account.unicast_bytes
        self._display.show(progress)
        counters = progress.counters
        if progress.verified_slabs != self._verified_slabs:
            self._verified_slabs, self._damaged_before = progress.verified_slabs, counters.bad_slabs
            self._patience.reset()
        elif counters.bad_slabs - self._damaged_before >= MAX_DAMAGED:
            raise ContentCorrupt(
                f"{self._point.url}: slab after slab of {self._package_id} is not what its manifest says; "
                f"`dpd content verify {self._package_id}` there tells where it is damaged"
            )
        elif progress.starts_in_s:
            self._patience.reset()
        elif self._patience.is_over:
            raise Unreachable(
                f"{self._point.url}: no slab could be completed within --patience, though the session goes on; "
                f"{counters.lost} datagrams were lost: is --patience shorter than a slab of {SLAB_BYTES} bytes takes?"
            )


class _Rest:
    """What a receiver without a place in the group fetches."""

    def __init__(self, reception: Reception, connection: Connection, session_id: str, member: int) -> None:
        self.verified = reception._verified
        self.counters = ReceiverCounters()
        self._reception = reception
        self._herald = Herald(reception._point, connection, session_id, member)
        self._geometry = reception._geometry
        self.fetcher = SlabFetcher(connection, reception._manifest, reception._store, self._pause)
        self._started_at = time.monotonic()
        self._shown_at = 0.0

    def fetch(self) -> None:
        """From the end of the image, as all do who fetch: what one has read is in the server's memory for the next."""
        while wanted := self._geometry.every_slab & ~self.verified:
            self._pause(0.0)
            slab = wanted.bit_length() - 1
            if self.fetcher.fetch(slab):
                self.verified |= 1 << slab
                self.counters.unicast_slabs += 1
            else:
                self.counters.bad_slabs += 1
        self._show()

    def _pause(self, wait_s: float) -> None:
        time.sleep(wait_s)
        self._herald.tell(self.verified, self._geometry.slab_count)
        if time.monotonic() - self._shown_at >= PROGRESS_S:
            self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        progress = Progress.of(self._geometry, self.verified, self._shown_at - self._started_at, self.counters)
        progress.is_unicast, progress.unicast_bytes = True, self.fetcher.fetched_bytes
        self._reception._watch(progress)


def _explain(fact: SessionFact, url: str, symbols: int) -> DpdError:
    if fact is SessionFact.SILENT and not symbols:
        return Unreachable(
            f"{url}: joined, but no multicast datagram arrives; `dpd mc-test {url}` on this machine tells why: a switch that "
            "snoops without a querier, a firewall, another --interface"
        )
    return Unreachable(f"{url}: {fact.value}")
