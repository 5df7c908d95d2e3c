# SPDX-License-Identifier: Apache-2.0
"""Stories of boots: order, joining by address, and bounds."""

from dpd.telemetry.journal import EVENTS_PER_CAPACITY, EVENTS_PER_MACHINE, BootEvent, BootJournal

ONE, TWO, THREE = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"


def test_a_story_is_told_in_order() -> None:
    times = iter([10.0, 11.5])
    journal = BootJournal(clock=lambda: next(times))
    journal.note(ONE, "discover", client_arch="uefi-x64", secs=4)
    journal.note(ONE, "offer", loader="ipxe.efi")
    assert journal.story(ONE) == [
        BootEvent(10.0, "discover", {"client_arch": "uefi-x64", "secs": 4}),
        BootEvent(11.5, "offer", {"loader": "ipxe.efi"}),
    ]
    assert journal.story(TWO) == []


def test_an_address_joins_the_story_of_its_machine() -> None:
    journal = BootJournal()
    journal.note_address("10.0.0.5", "tftp", file="ipxe.efi")
    assert journal.machines() == []
    journal.bind("10.0.0.5", ONE)
    journal.note_address("10.0.0.5", "tftp", file="ipxe.efi")
    assert [event.event for event in journal.story(ONE)] == ["tftp"]


def test_an_address_belongs_to_whom_it_was_given_last() -> None:
    journal = BootJournal()
    journal.bind("10.0.0.5", ONE)
    journal.bind("10.0.0.5", TWO)
    journal.note_address("10.0.0.5", "tftp")
    assert journal.machines() == [TWO]


def test_the_machine_silent_longest_goes_first() -> None:
    journal = BootJournal(capacity=2)
    journal.note(ONE, "discover")
    journal.note(TWO, "discover")
    journal.note(ONE, "offer")
    journal.note(THREE, "discover")
    assert journal.machines() == [ONE, THREE]
    assert journal.story(TWO) == []


def test_addresses_are_bounded_too() -> None:
    journal = BootJournal(capacity=2)
    for last in (1, 2, 3):
        journal.bind(f"10.0.0.{last}", ONE)
    journal.note_address("10.0.0.1", "lost")
    journal.note_address("10.0.0.3", "kept")
    assert [event.event for event in journal.story(ONE)] == ["kept"]


def test_one_machine_keeps_its_latest_events() -> None:
    journal = BootJournal(capacity=4096)
    for number in range(EVENTS_PER_MACHINE + 5):
        journal.note(ONE, "discover", number=number)
    story = journal.story(ONE)
    assert len(story) == EVENTS_PER_MACHINE
    assert story[-1].fields == {"number": EVENTS_PER_MACHINE + 4}


def test_all_stories_together_are_bounded() -> None:
    journal = BootJournal(capacity=32)
    for machine in range(32):
        for _ in range(EVENTS_PER_MACHINE):
            journal.note(f"52:54:00:00:00:{machine:02x}", "discover")
    total = sum(len(journal.story(mac)) for mac in journal.machines())
    assert 0 < total <= 32 * EVENTS_PER_CAPACITY
    assert journal.machines()[-1] == "52:54:00:00:00:1f"


def test_a_story_returned_is_a_copy() -> None:
    journal = BootJournal()
    journal.note(ONE, "discover")
    journal.story(ONE).clear()
    assert len(journal.story(ONE)) == 1
