# SPDX-License-Identifier: Apache-2.0
"""The second receiver of dpd-mc/1 (spec_receiver.py): one place in a session, without sockets. Numbers are sections."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.interop.spec_image import Image, Refused
from tests.interop.spec_slab import (
    BEAT,
    COLUMNS,
    CONTROL,
    DATA,
    END_OF_PASS,
    END_OF_SLAB,
    HEADER,
    NACK,
    NCF,
    PARITY,
    PARITY_ROWS,
    REPAIR,
    REPORT,
    ROW,
    ROWS,
    SEALED,
    SLAB,
    SYMBOL,
    Assembly,
    Header,
    ahead,
    slab_set,
)

END, MOVE, FALL_BACK, KICK = 1, 2, 3, 4
SLOTS = 8
TALLY = ["received", "lost", "socket_drops", "duplicates", "reordered", "repairs", "suppressed", "bad_slabs"]
TALLY += ["unicast_slabs", "drain_kib_s"]


class Window:
    """How many symbols may be under way to us (8, rule 10)."""

    def __init__(self, limit: int, is_friendly: bool) -> None:
        self.limit, self.is_friendly, self.symbols = limit, is_friendly, min(1024, limit)
        self._taken = self._lost = 0
        self._has_slowed = False
        self._delays: list[tuple[float, float]] = []
        self._shrunk_at = 0.0

    def count(self, taken: int, lost: int) -> None:
        self._taken += taken
        self._lost += min(lost, 128)
        if self._taken < max(self.symbols, 0 if self.is_friendly else 2048):
            return
        if self._lost if self.is_friendly else self._lost > self._taken / 12:
            self._set(self.symbols // 2, 64 if self.is_friendly else 128)
        elif not self._shows_queue(0.0):
            grown = self.symbols * 2 if not self._has_slowed else self.symbols + (self.symbols >> 4)
            self.symbols = min(self.limit, self.symbols + 1 if self.is_friendly and self._has_slowed else grown)
        self._taken = self._lost = 0

    def note_beat(self, tx_time: int, now: float) -> None:
        delay = ahead(int(now * 1e6) & 0xFFFFFFFF, tx_time) / 1e6
        self._delays = [d for d in self._delays if d[0] > now - 15] + [(now, delay)]
        if now > self._shrunk_at + 0.2 and self._shows_queue(0.2):
            self._set(int(self.symbols * 0.85), 128)
            self._shrunk_at = now

    def _shows_queue(self, for_s: float) -> bool:
        """Whether the latest BEAT, or all of the last `for_s`, took 5 ms longer than the quickest."""
        if not self._delays or self._delays[-1][0] - self._delays[0][0] < for_s:
            return False
        since = self._delays[-1][0] - for_s
        quickest = min(d for _, d in self._delays)
        return all(d > quickest + 0.005 for at, d in self._delays if at >= since)

    def _set(self, symbols: int, least: int) -> None:
        self.symbols, self._has_slowed = max(least, symbols), True


class Place:
    """One place in a session: from the join until it is complete or told to do something else."""

    def __init__(self, image: Image, answer: dict[str, Any], credit: int, tally: dict[str, int], now: float) -> None:
        self.image, self.tally = image, tally
        self.session, self.epoch = answer["session"], answer["epoch"]
        self.member = int(answer["member"], 16)
        self.window = Window(credit, answer["friendly"])
        self.cipher = AESGCM(bytes.fromhex(answer["key"])) if answer["cipher"] else None
        self.salt = bytes.fromhex(answer["salt"])
        self.assemblies: dict[int, Assembly] = {}
        self.current = -1
        self.seen: int | None = None
        self.claim: int | None = None
        self.missing: set[int] = set()
        self.behind = 0
        self.members, self.nack_ms, self.is_representative = 10, 2, True  # until a BEAT tells
        self.tx_time, self.tx_time_at, self.beat_tx_time = 0, now, 0
        self.beat_at = -math.inf
        self.has_heard, self.heard_at, self.symbols = False, now, 0
        self.repair_s = 0.02  # A of 8, rule 6
        self.order = 0  # the CONTROL that names us
        self.outbox: list[bytes] = []
        self.report_due, self.pass_report_due, self.reported_at, self.untold = now, math.inf, now, 0
        self.verified_at_report, self.stored_at = len(image.verified), now

    def receive(self, datagram: bytes, now: float) -> None:
        if len(datagram) < HEADER.size:
            return
        header = Header(*HEADER.unpack_from(datagram))
        if header.version_and_type >> 4 != 1 or (header.session, header.epoch) != (self.session, self.epoch):
            return
        kind = header.version_and_type & 15
        if kind in (DATA, PARITY):
            self._take_symbol(kind, header, datagram, now)
        elif kind == BEAT and self._take_beat(header, datagram, now):
            self.tx_time, self.tx_time_at = header.tx_time, now
        elif kind == NCF:
            self._take_ncf(datagram, now)
        elif kind == CONTROL:
            self._take_control(header, datagram)

    def _take_symbol(self, kind: int, header: Header, datagram: bytes, now: float) -> None:
        symbol = self._open(header, datagram)
        if symbol is None or header.slab >= self.image.count or header.column >= COLUMNS:
            return
        rows = -(-self.image.slab_bytes(header.slab) // ROW)
        if not (header.row < rows if kind == DATA else ROWS <= header.row < ROWS + PARITY_ROWS):
            return
        is_on_time = self._follow(header.tx_seq)
        self.tally["received"] += 1
        self.symbols += 1
        self.tx_time, self.tx_time_at = header.tx_time, now
        is_repair = bool(header.flags & REPAIR)
        if is_on_time and not is_repair and header.slab != self.current:
            self._leave(header.slab, now)
        assembly = self.assemblies.get(header.slab)
        if assembly is None and is_on_time and not is_repair and kind == DATA and header.row <= 16:
            assembly = self._begin(header.slab, rows)
        if assembly is None:
            self.tally["duplicates"] += header.slab in self.image.verified
            return
        is_new = assembly.take(header, symbol)
        self.tally["repairs"] += is_new and is_repair
        self.tally["duplicates"] += not is_new
        self._time_question(assembly, header, is_repair, now)
        if is_new and not any(assembly.deficits()):
            self._verify(assembly, now)

    def _open(self, header: Header, datagram: bytes) -> bytes | None:
        """The 1408 bytes, or None where they are not what this session has (9, sealing)."""
        if self.cipher is None:
            return datagram[HEADER.size :] if len(datagram) == HEADER.size + SYMBOL else None
        if not header.flags & SEALED or len(datagram) != HEADER.size + SYMBOL + 16:
            return None
        nonce = self.salt + struct.pack(">B3xI", header.speed_class, header.tx_seq)
        try:
            return self.cipher.decrypt(nonce, datagram[HEADER.size :], datagram[: HEADER.size])
        except InvalidTag:
            return None

    def _follow(self, seq: int) -> bool:
        """Whether this symbol is the newest (8, rule 4)."""
        step = 1 if self.seen is None else ahead(seq, self.seen)
        continues = self.claim is not None and 0 < ahead(seq, self.claim) <= 128
        if 0 < step <= 128 or (step > 0 and continues):
            self.tally["lost"] += step - 1
            self.window.count(step, step - 1)
            self.untold += step
            self.missing.update((seq - back) & 0xFFFFFFFF for back in range(1, min(step, 129)))
            if len(self.missing) > 4096:
                self.missing.clear()
            self.seen, self.claim, self.behind = seq, None, max(0, self.behind - 1)
            return True
        if step > 0:
            self.claim = seq
        elif step < -128:
            self.behind += 1
            if self.behind >= 96:
                self.seen, self.behind = seq, 0
        elif seq in self.missing:
            self.missing.discard(seq)
            self.tally["reordered"] += 1
            self.tally["lost"] -= 1
        return False

    def _begin(self, slab: int, rows: int) -> Assembly | None:
        if slab in self.image.verified:
            return None
        if len(self.assemblies) >= SLOTS:
            poor = [a.slab for a in self.assemblies.values() if a.received <= 32]
            if not poor:
                return None
            del self.assemblies[poor[0]]
        self.assemblies[slab] = Assembly(slab, rows)
        return self.assemblies[slab]

    def _leave(self, current: int, now: float) -> None:
        """The stream is at `current` now: what is behind it may be asked for."""
        self.current = current
        if again := self.assemblies.get(current):
            again.has_left, again.due = False, math.inf
        for assembly in list(self.assemblies.values()):
            if assembly.slab != current and not assembly.has_left:
                self._ask(assembly, now)

    def _ask(self, assembly: Assembly, now: float) -> None:
        """Begin a round (8, rules 5 and 6)."""
        spread, n = self.nack_ms / 1000, self.members
        wide = math.log(n) + 1
        wait = 0.0 if n <= 1 else spread / wide * math.log(1 + random.random() * (math.e**wide - 1))
        assembly.has_left, assembly.met_ncf = True, False
        assembly.natural_due = assembly.due = now + 0.002 + wait
        assembly.repeat_s = max(0.02, 2 * spread)
        if not assembly.saw_end and max(assembly.deficits()) <= assembly.promised:
            assembly.due += self._patience_s()

    def _patience_s(self) -> float:
        return min(1.0, max(0.02, 2 * (self.repair_s + self.nack_ms / 1000)))

    def _time_question(self, assembly: Assembly, header: Header, is_repair: bool, now: float) -> None:
        is_end = bool(header.flags & END_OF_SLAB)
        if not is_repair:
            assembly.promised = header.promised_rows
            assembly.saw_end = assembly.saw_end or is_end
            if is_end and not assembly.has_left:
                self._ask(assembly, now)
            assembly.due = max(assembly.due, now + 0.002)  # while symbols of it arrive it is not asked for
        elif is_end and assembly.asked_at < math.inf and assembly.gained:
            self.repair_s += (now - assembly.asked_at - self.repair_s) / 8
            assembly.asked_at, assembly.gained = math.inf, 0
            self._ask(assembly, now)
        elif is_end and assembly.asked_at < math.inf:
            assembly.due = min(assembly.due, max(now, assembly.asked_at + 0.02))
        elif is_end:
            assembly.saw_end = True
            assembly.due = min(assembly.due, max(now, assembly.natural_due))

    def _take_ncf(self, datagram: bytes, now: float) -> None:
        for slab, deficits in self._deficit_lists(datagram, HEADER.size):
            assembly = self.assemblies.get(slab)
            if assembly is None or assembly.met_ncf or assembly.due == math.inf:
                continue
            if all(a <= b for a, b in zip(assembly.deficits(), deficits, strict=True)):
                assembly.met_ncf = True
                assembly.due = max(assembly.due, now + self._patience_s())
                self.tally["suppressed"] += 1

    def _deficit_lists(self, datagram: bytes, at: int) -> list[tuple[int, bytes]]:
        if len(datagram) <= at or len(datagram) != at + 1 + 36 * datagram[at]:
            return []
        return list(struct.iter_unpack(">I32s", datagram[at + 1 :]))

    def _send_nacks(self, now: float) -> None:
        due = [a for a in self.assemblies.values() if a.due <= now]
        for assembly in [a for a in due if a.received < a.k * COLUMNS / 8]:  # rule 7: it comes round again
            due.remove(assembly)
            del self.assemblies[assembly.slab]
        for first in range(0, len(due), 32):
            some = due[first : first + 32]
            body = struct.pack(">QIB", self.member, self.seen or 0, len(some))
            body += b"".join(struct.pack(">I32s", a.slab, a.deficits()) for a in some)
            self.outbox.append(self._header(NACK) + body)
            self.tally["nacks"] += 1
        for assembly in due:
            assembly.asked_at, assembly.gained = now, 0
            assembly.due, assembly.repeat_s = now + assembly.repeat_s, min(1.0, 2 * assembly.repeat_s)

    def _take_beat(self, header: Header, datagram: bytes, now: float) -> bool:
        at = HEADER.size + 9
        if len(datagram) < at or len(datagram) != at + 4 * datagram[at - 1] + 64:
            return False
        is_old = ahead(header.tx_time, self.beat_tx_time) < 0 and now - self.beat_at < 1800
        if not self.image.is_authentic(datagram) or is_old:
            return False
        position, _, self.members, count = struct.unpack_from(">IHHB", datagram, HEADER.size)
        self.is_representative = self.member & 0xFFFFFFFF in struct.unpack_from(f">{count}I", datagram, at)
        self.beat_tx_time, self.beat_at, self.nack_ms = header.tx_time, now, min(50, header.nack_ms)
        self.has_heard, self.heard_at, self.members = True, now, max(1, self.members)
        self.window.note_beat(header.tx_time, now)
        is_end = bool(header.flags & END_OF_PASS)
        step = 1 if self.seen is None else ahead(header.tx_seq, self.seen)
        if step > 0 or step <= -(2**14) or is_end:
            self.tally["lost"] += max(0, step) if self.seen is not None else 0
            self.seen = header.tx_seq
        self._leave(-1 if is_end else position, now)
        if is_end and self.pass_report_due == math.inf:
            width = max(self.nack_ms / 1000, self.members / 1000)
            earliest = self.reported_at + max(self.nack_ms / 100, 2 * width)
            self.pass_report_due = max(now + random.random() * width, earliest)
        return True

    def _take_control(self, header: Header, datagram: bytes) -> None:
        at = HEADER.size + 2
        if (
            len(datagram) < at
            or len(datagram) != at + 4 * datagram[at - 1] + 64
            or not self.image.is_authentic(datagram)
        ):
            return
        named = struct.unpack_from(f">{datagram[at - 1]}I", datagram, at)
        if header.row == END or (header.row in (MOVE, FALL_BACK, KICK) and self.member & 0xFFFFFFFF in named):
            self.order = header.row

    def _verify(self, assembly: Assembly, now: float) -> None:
        self.tally["recovered"] += assembly.k * COLUMNS - sum(map(len, assembly.source))
        if self.image.store(assembly.slab, assembly.content()):
            del self.assemblies[assembly.slab]
            self.tally["drain_kib_s"] = int(SLAB / 1024 / max(0.001, now - self.stored_at))
            self.stored_at = now
            return
        self.tally["bad_slabs"] += 1
        assembly.bad_hashes += 1
        try:
            assembly.keep_confirmed(self.image.door.fetch(f"{self.image.path}/leaves/{assembly.slab}"))
        except (Refused, OSError):
            assembly.bad_hashes = 5
        if assembly.bad_hashes == 5:
            del self.assemblies[assembly.slab]
        else:
            assembly.has_left, assembly.due = True, now

    def next_timeout(self) -> float:
        return min([self.report_due, self.pass_report_due, *(a.due for a in self.assemblies.values())])

    def handle_timeout(self, now: float) -> None:
        self._send_nacks(now)
        least = self.members * 50e-6
        since, window = now - self.reported_at, self.window.symbols
        has_news = len(self.image.verified) > self.verified_at_report and since >= max(0.005, least)
        has_taken = self.untold >= window / 4 and (since >= least or self.untold >= window / 2)
        if now >= min(self.report_due, self.pass_report_due) or (self.is_representative and (has_news or has_taken)):
            self.report(now)

    def report(self, now: float) -> None:
        tally = [self.tally[name] & 0xFFFFFFFF for name in TALLY]
        delay = min(0xFFFF, int((now - self.tx_time_at) * 1e6 / 64))
        held = sorted(self.assemblies)
        body = struct.pack(">QIIHH10I", self.member, self.seen or 0, self.tx_time, delay, SLOTS - len(held), *tally)
        body += struct.pack(f">BII{len(held)}I", len(held), self.window.symbols, self.image.count, *held)
        self.outbox.append(self._header(REPORT) + body + slab_set(self.image.verified, self.image.count))
        slow_s = min(4.0, max(1.0, self.members / 250)) * random.uniform(0.75, 1.25)
        self.reported_at, self.untold, self.pass_report_due = now, 0, math.inf
        self.report_due = now + (0.2 if self.is_representative else slow_s)
        self.verified_at_report = len(self.image.verified)

    def _header(self, kind: int) -> bytes:
        return HEADER.pack(1 << 4 | kind, 0, self.epoch, self.session, 0, 0, 0, 0, 0, 0, 0, 0)
