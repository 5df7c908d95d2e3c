# SPDX-License-Identifier: Apache-2.0
"""Which offer a machine takes: a required one by itself, an available one when somebody chooses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dpd.errors import DpdError
from dpd.sequence.exchange import Offer

TRIES = 5


class NothingToDo(DpdError):
    """The distribution point offers this machine nothing, or nobody took what it offers."""


def choose(
    offers: Sequence[Offer],
    ask: Callable[[str], str],
    show: Callable[[str], object],
    deployment: int = 0,
) -> Offer:
    """`deployment` is one that was chosen before; `ask` shows a prompt and returns a line, or raises EOFError. Raises NothingToDo."""
    if deployment:
        for offer in offers:
            if offer.deployment == deployment:
                return offer
        raise NothingToDo(f"deployment {deployment} is not offered to this machine; there are {_numbers(offers)}")
    if required := [offer for offer in offers if offer.purpose == "required"]:
        return required[0]
    if not offers:
        raise NothingToDo(
            "the distribution point offers this machine no task sequence; `dpd deployment list` there shows what it would"
        )
    return _ask(offers, ask, show)


def _ask(offers: Sequence[Offer], ask: Callable[[str], str], show: Callable[[str], object]) -> Offer:
    show("What shall this machine become?")
    for place, offer in enumerate(offers, 1):
        show(f"  {place}  {offer.name or offer.sequence}" + (f"  {offer.description}" if offer.description else ""))
    for _ in range(TRIES):
        try:
            line = ask(f"1 to {len(offers)}, or nothing to leave it as it is: ").strip()
        except EOFError:
            raise NothingToDo(
                "available task sequences wait for somebody at the console, and there is nobody"
            ) from None
        if not line:
            raise NothingToDo("nobody took an available task sequence")
        if line.isdigit() and 1 <= int(line) <= len(offers):
            return offers[int(line) - 1]
        show(f"{line[:20]!r} is none of them")
    raise NothingToDo("nobody took an available task sequence")


def _numbers(offers: Sequence[Offer]) -> str:
    return ", ".join(str(offer.deployment) for offer in offers) or "none"
