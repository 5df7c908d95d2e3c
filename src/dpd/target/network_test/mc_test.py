# SPDX-License-Identifier: Apache-2.0
"""`dpd mc-test`: is the network between a distribution point and this machine fit for multicast, and if not, why?

Exit codes: 0 fit, 1 not fit, 2 wrong usage, 4 distribution point out of reach, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any, TextIO

from dpd.errors import ContentNotFound, DpdError, SessionError
from dpd.protocol.multicast.probe import BEAT_INTERVAL_S, Stream
from dpd.service.network.udp import receiving_address
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.network_test.diagnosis import Finding, Observation, Verdict, diagnose, is_fit, moment_text
from dpd.target.network_test.interface import KernelCounts, find_interface, kernel_counts, other_interfaces
from dpd.target.network_test.listener import Listener

EXIT_FIT, EXIT_UNFIT, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 4, 130
FIRST_S = 3.0  # for a switch to learn of the group and for the first datagrams to come
LATE_S = 9.0  # a switch's port that has just come up may take this long; then nothing will come
CUT_S = 6.0  # so many beats in a row are not lost by chance: the group is no longer passed on
RUN_TURN_S = 60.0  # other tests may be running theirs
MARGIN_S = 90.0
CHECK_AT_S = 30.0
TICK_S = 0.25
EXAMPLE = "example: dpd mc-test http://dp:8080 --interface eth0 --minutes 5"


class Screen:
    """A line of progress on a terminal, JSON lines for programs, silence else; then the table."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None) -> None:
        self._as_json = as_json
        self._out = out or sys.stdout
        self._is_live = not as_json and sys.stderr.isatty()
        self._has_line = False

    def progress(self, phase: str, elapsed_s: float, **counted: int) -> None:
        """Where the test is, some times a second."""
        if self._as_json:
            self._line("progress", phase=phase, elapsed_s=round(elapsed_s, 1), **counted)
        elif self._is_live:
            shown = ", ".join(f"{name} {value}" for name, value in counted.items())
            sys.stderr.write(f"\r\x1b[K{elapsed_s:4.0f} s  {phase}: {shown}")
            sys.stderr.flush()
            self._has_line = True

    def tell(self, event: str, **fields: Any) -> None:
        if self._as_json:
            self._line(event, **fields)
            return
        self._end_line()
        shown = ", ".join(f"{name} {value}" for name, value in fields.items())
        self._out.write(f"{event}: {shown}\n")
        self._out.flush()

    def result(self, findings: Sequence[Finding], measured: Mapping[str, Any]) -> None:
        """The end: the table, and what to do where something is wrong."""
        fit = is_fit(list(findings))
        if self._as_json:
            lines = [asdict(finding) | {"verdict": finding.verdict.value} for finding in findings]
            self._line("result", fit=fit, findings=lines, measured=measured)
            return
        self._end_line()
        self._out.write(table(findings))
        self._out.write(
            "\nThis network is fit for multicast.\n" if fit else "\nThis network is not fit for multicast.\n"
        )
        self._out.flush()

    def _end_line(self) -> None:
        if self._has_line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._has_line = False

    def _line(self, event: str, **fields: Any) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()


def table(findings: Sequence[Finding]) -> str:
    """A line for each check; cause and remedy below the line, where there are any."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.check:<{width}}  {finding.verdict.value.upper():<7}  {finding.found}")
        indent = " " * (width + 11)
        lines += [
            f"{indent}{name}: {text}" for name, text in (("cause", finding.cause), ("remedy", finding.remedy)) if text
        ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Status:
    """What the distribution point says that it sent, by stream, and heard; `too_large` are packet sizes it could not send."""

    state: str
    sent: dict[str, int]
    too_large: tuple[int, ...]
    echoes: int


class NetworkTest:
    """One test, from the question to the distribution point to what it is told of the result."""

    def __init__(self, url: str, interface: str, minutes: float, screen: Screen, ca_file: str = "") -> None:
        self._point = DistributionPoint(url, ca_file)
        self._connection = self._point.open_connection()
        self._screen = screen
        self._seconds = minutes * 60
        address = receiving_address(interface) if interface else self._point.local_address()
        self._interface = find_interface(address)
        self._passes: dict[float, bool] = {}
        self._cut_after_s: float | None = None

    def run(self) -> list[Finding]:
        """Test, tell the distribution point, show. Raises DpdError where the test itself cannot be made."""
        try:
            return self._run()
        finally:
            self._connection.close()
            self._point.close()

    def _run(self) -> list[Finding]:
        before = kernel_counts()
        answer = self._ask("POST", "", {"seconds": min(self._seconds + MARGIN_S, 660.0)})
        test, group, feedback = self._read_answer(answer)
        listener = Listener(int(test, 16), group, str(answer.get("source", "")), self._interface)
        self._began = time.monotonic()
        try:
            listener.start(feedback)
            self._screen.tell("testing", group=group[0], port=group[1], interface=self._interface.name)
            self._listen(listener, test)
            seen = self._observe(listener, answer, self._ask_status(test), kernel_counts().since(before))
        finally:
            listener.close()
        findings = diagnose(seen)
        self._report(test, findings)
        self._screen.result(findings, _measured(seen))
        return findings

    def _read_answer(self, answer: Mapping[str, Any]) -> tuple[str, tuple[str, int], tuple[str, int]]:
        """(test, group and port, feedback address and port)."""
        with self._reading():
            test, group = str(answer["test"]), str(answer["group"])
            int(test, 16)
            if not ip_address(group).is_multicast:
                raise ValueError(f"{group} is no multicast group")
            sender = str(answer["sender"] or self._connection.peer_address())
            return test, (group, int(answer["port"])), (sender, int(answer["feedback_port"]))

    def _ask_status(self, test: str) -> Status:
        answer = self._ask("GET", f"/{test}")
        with self._reading():
            return Status(
                state=str(answer["state"]),
                sent={str(name): int(count) for name, count in answer["sent"].items()},
                too_large=tuple(int(size) for size in answer["too_large"]),
                echoes=int(answer["echoes"]),
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SessionError(f"{self._point.url}: its answer cannot be read: {error!r}") from None

    # ---- the time of the test

    def _listen(self, listener: Listener, test: str) -> None:
        if not self._wait(listener, "waiting for the group", FIRST_S, until_beat=True):
            listener.look_around(other_interfaces(self._interface.name))
            if not self._wait(listener, "nothing yet, looking around", LATE_S, until_beat=True):
                return
        self._passes[0.0] = self._elapsed() < FIRST_S
        self._run_streams(listener, test)
        for moment in sorted({min(CHECK_AT_S, self._seconds), self._seconds}):
            self._wait(listener, "does the group survive", moment)
            self._passes[moment] = self._cut_after_s is None and listener.heard.tally.passes_at(time.time())
            if self._cut_after_s is not None:
                return

    def _run_streams(self, listener: Listener, test: str) -> None:
        """Sizes, paced, bursts; other tests' runs come first where they asked first."""
        self._ask("POST", f"/{test}/run", {})
        deadline = time.monotonic() + RUN_TURN_S
        while self._ask_status(test).state != "sent":
            if time.monotonic() > deadline:
                raise SessionError(f"{self._point.url}: its test streams did not begin; try again in a minute")
            self._tick(listener, "sizes, paced, bursts")
        self._tick(listener, "sizes, paced, bursts")  # for what is still on its way

    def _wait(self, listener: Listener, phase: str, until_s: float, *, until_beat: bool = False) -> bool:
        """Let time pass to `until_s` after the join, or until the group is cut off. Returns whether a beat has come."""
        while self._elapsed() < until_s and self._cut_after_s is None:
            if until_beat and listener.heard.last_beat_at:
                return True
            self._tick(listener, phase)
            last = listener.heard.last_beat_at
            if last and not until_beat and time.monotonic() - last > CUT_S:
                self._cut_after_s = last - self._began
        return listener.heard.last_beat_at > 0

    def _tick(self, listener: Listener, phase: str) -> None:
        time.sleep(TICK_S)
        heard = listener.heard
        self._screen.progress(
            phase, self._elapsed(), datagrams=heard.tally.received, queries=len(heard.queriers), echoes=len(heard.round_trips_s)
        )  # fmt: skip

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    # ---- the result

    def _observe(
        self, listener: Listener, answer: Mapping[str, Any], status: Status, kernel: KernelCounts
    ) -> Observation:
        heard, interface = listener.heard, self._interface
        sender = str(answer["sender"] or self._connection.peer_address())
        many = self._elapsed() / BEAT_INTERVAL_S / 2  # fewer than half of the beats are somebody else's packets
        taken_in = 0 if listener.can_see_packets else kernel.multicast_packets
        reverse_path_drops = kernel.reverse_path_drops
        return Observation(
            interface=interface.name,
            address=interface.address,
            group=str(answer["group"]),
            tally=heard.tally,
            sender=sender,
            ttl=heard.tally.sent_ttl if heard.tally.received else _whole(answer.get("ttl")),
            mtu=interface.mtu,
            is_wireless=interface.is_wireless,
            is_same_subnet=interface.reaches_directly(sender),
            buffer_bytes=listener.buffer_bytes,
            passes=self._passes,
            cut_after_s=self._cut_after_s,
            listened_s=self._elapsed(),
            can_hear_queries=listener.can_hear_queries,
            queriers=dict(heard.queriers),
            sent=status.sent,
            too_large=status.too_large,
            drops=dict(heard.drops),
            round_trips_s=tuple(heard.round_trips_s),
            echoes=(heard.echoes_sent, status.echoes),
            elsewhere=heard.elsewhere,
            seen_before_firewall=heard.seen_before_firewall,
            dropped_here=taken_in if taken_in > many else 0,
            reverse_path_drops=reverse_path_drops if reverse_path_drops > many else 0,
        )

    def _report(self, test: str, findings: list[Finding]) -> None:
        """For the operator at the distribution point; that the test is known here does not depend on it."""
        failed = [finding.check for finding in findings if finding.verdict is Verdict.BAD]
        try:
            self._ask("POST", f"/{test}/result", {"verdict": "fit" if is_fit(findings) else "unfit", "failed": failed})
        except DpdError as error:
            self._screen.tell("result not told", reason=str(error))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        encoded = None if body is None else json.dumps(body).encode()
        try:
            answer = json.loads(self._connection.ask(method, f"/mc/test{path}", encoded))
        except ContentNotFound:
            raise Unreachable(f"{self._point.url}: knows no network tests; is it an older dpd?") from None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SessionError(
                f"{self._point.url}/mc/test: the answer is no JSON object; is this a distribution point?"
            )
        return answer


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 1


def _measured(seen: Observation) -> dict[str, Any]:
    """The numbers behind the words, for programs."""
    return {
        "interface": seen.interface,
        "group": seen.group,
        "passes": {moment_text(at): passes for at, passes in seen.passes.items()},
        "cut_after_s": seen.cut_after_s,
        "queriers": seen.queriers,
        "sent": seen.sent,
        "received": {stream.name.lower(): tally.received for stream, tally in seen.tally.streams.items()},
        "loss": {stream.name.lower(): round(seen.loss(stream), 5) for stream in (Stream.PACED, Stream.BURST)},
        "socket_drops": sum(seen.drops.values()),
        "reordered": sum(tally.reordered for tally in seen.tally.streams.values()),
        "duplicates": sum(tally.duplicates for tally in seen.tally.streams.values()),
        "packet_bytes": sorted(seen.tally.sizes),
        "ttl": {"sent": seen.ttl, "arrived": sorted(ttl for ttl in seen.tally.ttls if ttl)},
        "jitter_ms": round(seen.tally.streams[Stream.PACED].jitter_s * 1e3, 3),
        "round_trips_ms": [round(each * 1e3, 3) for each in sorted(seen.round_trips_s)],
        "buffer_bytes": seen.buffer_bytes,
        "is_wireless": seen.is_wireless,
    }


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse, since this must run where nothing is installed."""
    parser = argparse.ArgumentParser(
        prog="dpd mc-test",
        description="Test whether the network from a distribution point to this machine is fit for multicast.",
        epilog=EXAMPLE,
    )
    parser.add_argument("url", help="the distribution point, such as http://dp:8080")
    parser.add_argument("--interface", default="", help="default: the one that reaches the distribution point")
    parser.add_argument(
        "--minutes",
        type=float,
        default=0.5,
        help="how long to watch whether the network keeps passing the group on (default 0.5; 5 to be sure of a querier)",
    )
    parser.add_argument("--ca-file", default="", help="PEM file of the authority that signed an https certificate")
    parser.add_argument("--json", action="store_true", help="JSON lines; the last one has the result")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.minutes <= 9.5:
        parser.error(f"--minutes {options.minutes:g}: expected 0.1 to 9.5")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    screen = Screen(as_json=options.json)
    try:
        findings = NetworkTest(options.url, options.interface, options.minutes, screen, options.ca_file).run()
    except KeyboardInterrupt:
        screen.tell("interrupted", next="the distribution point ends the test by itself")
        return EXIT_INTERRUPTED
    except DpdError as error:
        screen.tell("failed", reason=str(error))
        return EXIT_UNREACHABLE if isinstance(error, Unreachable) else EXIT_UNFIT
    return EXIT_FIT if is_fit(findings) else EXIT_UNFIT


if __name__ == "__main__":
    sys.exit(main())
