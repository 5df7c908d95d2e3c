# SPDX-License-Identifier: Apache-2.0
"""One multicast session: an image, the receivers that want it, and a stream for each speed class they are in.

All streams send the same slabs, so a receiver that moves from one to another keeps all it has. The verbs may be called
from any thread; the streams' own threads are told what to do and never waited for, but at the end.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from dpd.content.library import Content
from dpd.errors import ServiceError, SessionError
from dpd.protocol.multicast.geometry import Geometry
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import ControlCode, ControlReason
from dpd.protocol.multicast.policy import PolicyOrder, SlowClientPolicy
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import MemberForgotten, MemberSilent
from dpd.service.multicast.cast import PATIENCE, CastChanges, CastPlan, rules_of, waiting_in_words
from dpd.service.multicast.join_answer import OpenStream, content_answer, stream_answer
from dpd.service.multicast.join_request import JoinRequest
from dpd.service.multicast.roster import MemberStatus, Place, Roster, describe, keep_counts, totals
from dpd.service.multicast.stream import Outfit, Stream, StreamOrigin
from dpd.service.network.sending_socket import open_sending_socket
from dpd.service.sealing import CIPHER, KEY_BYTES, SALT_BYTES, Sealer
from dpd.settings import MulticastSettings
from dpd.telemetry.events import Value

log = logging.getLogger(__name__)

MAX_CLASSES = 3
MAX_PLACES = 20_000  # by unicast too: what a flood of joins may cost
SILENCE_S = 60.0  # after which a receiver that no stream hears is given up


class Session:
    """One image to its receivers. The first stream starts with it; `stop` ends them all."""

    def __init__(self, content: Content, settings: MulticastSettings, plan: CastPlan, outfit: Outfit) -> None:
        self.content = content
        self.plan = plan
        self.roster = Roster()
        self.number = secrets.randbits(32)
        self.session_id = f"{self.number:08x}"
        self.idle_since = time.monotonic()
        self.is_sealed = settings.encryption
        self.geometry = Geometry(content.size_bytes)
        self._settings = settings
        self._outfit = outfit
        self._lock = threading.RLock()
        self._has_ended = False
        self._policy = SlowClientPolicy(rules_of(settings))
        self.streams: dict[int, OpenStream] = {}
        self._open_stream(0, plan.schedule(settings))

    # ---- streams

    def _open_stream(self, speed_class: int, schedule: Schedule) -> OpenStream:
        """Raises SessionError, ServiceError."""
        group = self._outfit.allocate(self.content, speed_class)
        key, salt = (secrets.token_bytes(KEY_BYTES), secrets.token_bytes(SALT_BYTES)) if self.is_sealed else (b"", b"")
        sealer = Sealer(key, salt) if self.is_sealed else None
        source = self._outfit.open_source(self.content)
        try:
            sending = open_sending_socket(self._settings.interface, group, self._settings.ttl)
        except ServiceError:
            source.close()
            raise
        stream = Stream(
            origin=StreamOrigin(self.number, self._outfit.epoch, speed_class, group.address, group.port),
            sock=sending.sock,
            source=source,
            geometry=self.geometry,
            settings=self._settings,
            schedule=schedule,
            rate_bit_s=self._outfit.first_rate(self.rate_bit_s, speed_class),
            is_paced_by_kernel=self._outfit.is_paced_by_kernel,
            workers=self._outfit.workers,
            sign=self._outfit.sign,
            flush=self._outfit.flush,
            forgotten=self._take_forgotten,
            labels=self.labels,
            sealer=sealer,
        )
        self.streams[speed_class] = OpenStream(stream, group, sending.address, key, salt)
        return self.streams[speed_class]

    def _stream(self, speed_class: int) -> OpenStream:
        """A stream, opened where nobody needed it before; slower classes start as soon as somebody is in them."""
        delay_s = self._settings.start_delay_s
        return self.streams.get(speed_class) or self._open_stream(speed_class, Schedule(delay_s, PATIENCE * delay_s))

    @property
    def live_streams(self) -> tuple[Stream, ...]:
        return tuple(each.stream for each in list(self.streams.values()))

    @property
    def groups(self) -> frozenset[str]:
        return frozenset(each.group.address for each in list(self.streams.values()))

    @property
    def labels(self) -> dict[str, str]:
        return {"session": self.session_id, "package": self.content.package_id}

    @property
    def rate_bit_s(self) -> float:
        return self.plan.rate_mbit_s * 1e6

    @property
    def has_ended(self) -> bool:
        """Whether it, or a stream of it, is at its end: receivers then join a new one."""
        return self._has_ended or any(stream.has_ended for stream in self.live_streams)

    @property
    def is_busy(self) -> bool:
        """Whether a live member still lacks something."""
        return any(stream.is_wanting for stream in self.live_streams)

    def starts_in_s(self, speed_class: int = 0) -> float:
        """Until the stream sends, were a receiver to join now; 0 where it does."""
        now, stream = time.monotonic(), self.streams[speed_class].stream
        schedule = stream.machine.schedule
        at = schedule.starts_at(now) if stream.is_wanting else None
        if at is None:  # with the first to join a group begins to gather
            gathering_s = schedule.wait_s if schedule.minimum_clients > 1 else schedule.quiet_s
            at = max(now + gathering_s, schedule.start_at or now)
        return max(at - now, 0.0)

    def waiting(self, joining: int = 0) -> str:
        """What the receivers wait for, in words; empty where they do not. `joining` have come since."""
        there = sum(m.is_wanting for m in list(self.streams[0].stream.machine.members.values())) + joining
        if not there and self.is_busy:  # in slower classes
            return ""
        starts_in_s = self.starts_in_s() if there else None
        return "" if starts_in_s == 0 else waiting_in_words(self.plan, there, starts_in_s)

    # ---- receivers

    def join(self, request: JoinRequest, address: str, *, is_secure: bool) -> dict[str, Any]:
        """Give a receiver its place. Returns what it must know. Raises SessionError, ServiceError."""
        with self._lock:
            before = self.roster.places.get(request.member)
            self._refuse(request, address, before)
            by_unicast = self._why_unicast(request, before, is_secure)
            if by_unicast and not self._settings.fall_back:
                raise SessionError(by_unicast)
            place = self.roster.seat(address, request.name, before)
            if before is not None:
                self._vacate(before, place)
            place.verified = request.verified
            place.reason = by_unicast
            place.is_multicast = not by_unicast
            answer = content_answer(self.content, self.session_id, place, self._outfit.public_key)
            if place.is_multicast:
                answer |= self._seat_in_stream(place, request)
        self.note("receiver_joined", place, mode=answer["mode"], verified_slabs=request.verified.bit_count())
        return answer

    def _refuse(self, request: JoinRequest, address: str, before: Place | None) -> None:
        name = self.content.package_id
        if self.roster.is_barred(request.member, address, request.name):
            raise SessionError(
                f"this receiver was sent away from the session of {name}; it may join when that session has ended"
            )
        if before is None and len(self.roster) >= MAX_PLACES:
            raise SessionError(f"the session of {name} has {MAX_PLACES} receivers, by HTTP included; try again later")

    def _why_unicast(self, request: JoinRequest, before: Place | None, is_secure: bool) -> str:
        """Empty where it may have multicast."""
        if before is not None and before.stays_unicast:
            return before.reason
        taken = self.roster.multicast_count - (before is not None and before.is_multicast)
        if taken >= self.plan.max_clients:
            return f"the session of {self.content.package_id} is full: multicast.max_clients = {self.plan.max_clients}"
        encrypted = f"the session of {self.content.package_id} is encrypted ({CIPHER})"
        if self.is_sealed and not is_secure:
            return f"{encrypted} and its key goes over TLS alone: join by https"
        if self.is_sealed and CIPHER not in request.ciphers:
            return f"{encrypted}, which this receiver cannot open"
        return ""

    def _vacate(self, before: Place, place: Place) -> None:
        """The same receiver under a new id: one place and no more."""
        self.roster.leave(before.member)
        self._keep_counts(before)
        place.counted = before.counted
        if before.next_class is not None:
            place.speed_class = before.next_class
        self._policy.replace(before.member, place.member)
        if before.is_multicast:
            self._withdraw(before)

    def _seat_in_stream(self, place: Place, request: JoinRequest) -> dict[str, Any]:
        opened = self._stream(place.speed_class)
        stream, member, starts_in_s = opened.stream, place.member, self.starts_in_s(place.speed_class)
        waiting = self.waiting(joining=1) if place.speed_class == 0 else ""
        stream.tell(
            lambda now: stream.machine.add_member(
                member, verified=request.verified, credit=request.credit, free_slabs=request.slots, now=now
            )
        )
        return {
            "session": self.number,
            "epoch": self._outfit.epoch,
            "class": place.speed_class,
            "friendly": self._settings.friendly,
            "floor_kib_s": self._settings.floor_kib_s,
            "starts_in_s": round(starts_in_s, 3),
            "waiting": waiting,
            **stream_answer(opened),
        }

    def complete(self, member: int, statistics: Mapping[str, float]) -> bool:
        """A receiver has every slab. False: nobody of that id."""
        with self._lock:
            place = self.roster.places.get(member)
            if place is None:
                return False
            place.verified = self.geometry.every_slab
            status = self._finish(place, "complete", statistics)
        self.note("receiver_completed", place, **totals(status))
        return True

    def progress(self, member: int, verified: int) -> bool:
        """A receiver by unicast tells how far it is. False: nobody of that id."""
        with self._lock:
            place = self.roster.places.get(member)
            if place is None:
                return False
            place.verified |= verified
            place.heard_at = time.monotonic()
            if place.is_multicast:
                self._keep_counts(place)
                place.is_multicast = False
            self._withdraw(place)  # it gives no feedback from now on, until it joins again
            return True

    def _finish(self, place: Place, state: str, statistics: Mapping[str, float] | None = None) -> MemberStatus:
        """Out of the places, into the list of those who are gone."""
        self.roster.leave(place.member)
        self._keep_counts(place)
        place.counted.update(statistics or {})
        status = describe(place, None, self.content.size_bytes, state=state, finished_at=round(time.time(), 3))
        self.roster.finished.append(status)
        if state != "kicked":  # it has to hear that
            self._withdraw(place)
        if not self.roster:
            self.idle_since = time.monotonic()
        return status

    def _keep_counts(self, place: Place) -> None:
        keep_counts(place, self.member(place))

    def member(self, place: Place) -> Member | None:
        """What its stream knows of a receiver; None for one by unicast."""
        found = self.streams.get(place.speed_class) if place.is_multicast else None
        return found.stream.machine.members.get(place.member) if found else None

    def _withdraw(self, place: Place) -> None:
        if (found := self.streams.get(place.speed_class)) is not None:
            machine, member = found.stream.machine, place.member
            found.stream.tell(lambda _: machine.remove_member(member))

    def _take_forgotten(self, event: MemberSilent | MemberForgotten) -> None:
        """From a stream's thread: it hears nothing of a member any more."""
        with self._lock:
            place = self.roster.places.get(event.member)
            if place is None or not place.is_multicast or place.next_class is not None:
                return
            if isinstance(event, MemberSilent):
                self.note("receiver_silent", place)
            else:
                self._lose(place)

    def _lose(self, place: Place) -> None:
        self._finish(place, "lost")
        self.note("receiver_lost", place)

    # ---- operators

    def start_now(self) -> None:
        """Send to those who wait, whatever the plan says."""
        stream = self.streams[0].stream
        stream.tell(lambda now: stream.machine.schedule.start_now(now))
        self.note("session_started_now")

    def apply(self, settings: MulticastSettings) -> None:
        """Other rules for slow receivers, and for whoever joins from now on. What is on the wire stays as it is."""
        self._settings = settings
        self._policy.rules = rules_of(settings)

    def change(self, changes: CastChanges) -> None:
        """Another plan from now on; a group that is being served goes on."""
        with self._lock:
            self.plan = plan = self.plan.with_changes(changes)
            stream, start_at = self.streams[0].stream, plan.monotonic_start()
            if changes.is_schedule:
                stream.tell(
                    lambda now: stream.machine.schedule.change(
                        minimum_clients=plan.minimum_clients, wait_s=plan.wait_s, start_at=start_at, now=now
                    )
                )

    def move(self, label: str, speed_class: int, reason: ControlReason = ControlReason.OPERATOR) -> None:
        """Put a receiver into another speed class. Raises SessionError, ServiceError."""
        with self._lock:
            place = self._multicast_place(label)
            if speed_class == (place.speed_class if place.next_class is None else place.next_class):
                raise SessionError(f"receiver {label} is in class {speed_class} already")
            self._stream(speed_class)
            place.next_class = speed_class
            place.class_moves += 1
            self._order(place, ControlCode.MOVE, reason)
        self.note("receiver_moved", place, to_class=speed_class, reason=reason.name.lower())

    def kick(self, label: str, *, fall_back: bool, reason: ControlReason = ControlReason.OPERATOR) -> None:
        """Take a receiver out: to go on by HTTP, or to fail. Raises SessionError."""
        with self._lock:
            if not fall_back:
                place = self._place(label)
                self._order(place, ControlCode.KICK, reason)
                self.roster.bar(place)
                self._finish(place, "kicked")
            else:
                place = self._multicast_place(label)
                self._order(place, ControlCode.FALL_BACK, reason)
                self._keep_counts(place)
                place.is_multicast, place.stays_unicast, place.next_class = False, True, None
                place.reason = f"taken out of the session: {reason.name.lower()}"
        self.note("receiver_kicked", place, fall_back=fall_back, reason=reason.name.lower())

    def _order(self, place: Place, code: ControlCode, reason: ControlReason) -> None:
        place.heard_at = time.monotonic()
        if (found := self.streams.get(place.speed_class)) is not None:
            machine, member = found.stream.machine, place.member
            found.stream.tell(lambda now: machine.order(code, [member], reason, now))

    def _place(self, label: str) -> Place:
        place = self.roster.named(label)
        if place is None:
            raise SessionError(
                f"session {self.session_id} has no receiver {label}; `dpd session members {self.session_id}` shows them"
            )
        return place

    def _multicast_place(self, label: str) -> Place:
        place = self._place(label)
        if not place.is_multicast:
            raise SessionError(f"receiver {label} goes by HTTP: it is in no stream")
        return place

    def look_after(self, now: float) -> None:
        """Once a second: judge the slow, give up those whom nobody hears."""
        with self._lock:
            for order in self._policy.judge([stream.machine.view(now) for stream in self.live_streams], now):
                self._obey(order)
            for place in self.roster:
                is_alone = not place.is_multicast or place.next_class is not None
                if is_alone and now - place.heard_at > SILENCE_S:
                    self._lose(place)

    def _obey(self, order: PolicyOrder) -> None:
        """What the policy decides is done as if an operator had asked for it."""
        place = self.roster.places.get(order.member)
        if place is None or not place.is_multicast or place.next_class is not None:
            return
        try:
            if order.code is ControlCode.MOVE:
                self.move(place.label, order.speed_class, order.reason)
            else:
                self.kick(place.label, fall_back=order.code is ControlCode.FALL_BACK, reason=order.reason)
        except (ServiceError, SessionError) as error:  # no group or socket for another class: it stays where it is
            log.warning("slow receiver left where it is", extra={**self.labels, "error": str(error)})

    def stop(self) -> None:
        """Say END to the groups and end the threads; idempotent."""
        with self._lock:
            has_ended, self._has_ended = self._has_ended, True
            streams = self.live_streams
        for stream in streams:
            stream.end()
        for stream in streams:
            stream.join()
        if not has_ended:
            for place in self.roster:
                self._finish(place, "ended")
            self.note("session_ended", completed=sum(m.state == "complete" for m in self.roster.finished))

    def note(self, event: str, place: Place | None = None, **fields: Value) -> None:
        """Into the events and the log."""
        who = {"member": place.label, "host": place.name, "peer": place.address} if place else {}
        self._outfit.events.note(event, **self.labels, **who, **fields)
