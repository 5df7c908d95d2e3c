# SPDX-License-Identifier: Apache-2.0
"""Stories of boots: order, joining by address, and bounds."""

from dpd.telemetry.journal import EVENTS_PER_CAPACITY, EVENTS_PER_MACHINE, MACS_PER_GUID, BootEvent, BootJournal

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


def test_a_machine_is_found_by_its_guid() -> None:
    journal = BootJournal()
    journal.note(ONE, "discover", guid="4c4c4544-0000-0000-0000-000000000001")
    assert journal.find("4c4c4544-0000-0000-0000-000000000001") == [ONE]
    assert journal.find("4c4c4544-0000-0000-0000-000000000002") == []


def test_a_guid_that_two_machines_tell_is_in_both_stories_once() -> None:
    told: list[str] = []
    journal = BootJournal()
    journal.watch_duplicates(lambda: told.append("again"))
    for mac in (ONE, ONE, TWO, ONE, TWO):
        journal.note(mac, "discover", guid="feed")
    conflicts = {mac: [event.fields for event in journal.story(mac) if event.event == "conflict"] for mac in (ONE, TWO)}
    assert conflicts == {
        ONE: [{"kind": "duplicate_guid", "guid": "feed", "others": TWO}],
        TWO: [{"kind": "duplicate_guid", "guid": "feed", "others": ONE}],
    }
    assert told == ["again"]
    assert journal.find("feed") == [ONE, TWO]


def test_guids_are_forgotten_before_they_fill_memory() -> None:
    journal = BootJournal(capacity=4)
    for number in range(100):
        journal.note(f"52:54:00:00:00:{number:02x}", "discover", guid="feed")
        journal.note(ONE, "discover", guid=f"guid-{number}")
    assert len(journal.find("feed")) == MACS_PER_GUID or journal.find("feed") == []
    assert journal.find("guid-1") == []
    assert journal.find("guid-99") == [ONE]


def test_relays_are_known_with_their_last_question() -> None:
    times = iter(range(1000))
    journal = BootJournal(clock=lambda: next(times))
    for number in range(300):
        journal.note(ONE, "discover", relay=f"10.{number // 256}.{number % 256}.1")
    assert len(journal.relays()) == 256
    assert list(journal.relays())[-1] == "10.1.43.1"
    journal.note(TWO, "discover")
    assert len(journal.relays()) == 256


def test_the_last_address_of_a_machine() -> None:
    journal = BootJournal()
    journal.bind("10.0.0.5", ONE)
    journal.bind("10.0.0.6", ONE)
    journal.bind("10.0.0.7", TWO)
    assert (journal.address_of(ONE), journal.address_of(THREE)) == ("10.0.0.6", "")
    assert (journal.owner_of("10.0.0.7"), journal.owner_of("10.0.0.8")) == (TWO, "")


def test_what_follows_at_once_is_told_behind_its_question() -> None:
    times = iter([10.0, 11.0, 12.0])
    journal = BootJournal(clock=lambda: next(times))
    entry = journal.note_question(
        ONE, "discover", (7,), lambda values: {"xid": values[0]}, guid="feed", relay="10.0.0.9"
    )
    journal.go_on(ONE, entry, "decision", "boot", lambda value: {"outcome": value})
    journal.note(ONE, "ticket", id="1")
    journal.go_on(ONE, entry, "offer", "ipxe.efi", lambda value: {"loader": value})
    assert journal.story(ONE) == [
        BootEvent(10.0, "discover", {"xid": 7}),
        BootEvent(10.0, "decision", {"outcome": "boot"}),
        BootEvent(11.0, "ticket", {"id": "1"}),
        BootEvent(12.0, "offer", {"loader": "ipxe.efi"}),
    ]
    assert (journal.find("feed"), journal.relays()) == ([ONE], {"10.0.0.9": 10.0})


def test_a_question_that_is_forgotten_is_no_place_for_its_answer() -> None:
    journal = BootJournal(capacity=1)
    entry = journal.note_question(ONE, "discover", {}, dict)
    journal.note(TWO, "discover")
    journal.go_on(ONE, entry, "offer", {}, dict)
    assert [event.event for event in journal.story(ONE)] == ["offer"]
    journal.go_on(ONE, None, "boot_reply", {}, dict)
    assert [event.event for event in journal.story(ONE)] == ["offer", "boot_reply"]


def test_steps_of_questions_are_bounded_like_others() -> None:
    journal = BootJournal(capacity=32)
    for machine in range(32):
        for number in range(EVENTS_PER_MACHINE):
            mac = f"52:54:00:00:00:{machine:02x}"
            entry = journal.note_question(mac, "discover", {"number": number}, dict)
            journal.go_on(mac, entry, "decision", {}, dict)
            journal.go_on(mac, entry, "offer", {"number": number}, dict)
    story = journal.story("52:54:00:00:00:1f")
    assert len(story) == EVENTS_PER_MACHINE
    assert story[-1].fields == {"number": EVENTS_PER_MACHINE - 1}
    assert len(journal.machines()) <= 2  # a machine's 64 questions are 192 events, and there is room for 256


def test_a_chapter_says_how_many_events_came_before() -> None:
    journal = BootJournal()
    assert journal.chapter(ONE) == (0, [])
    for number in range(EVENTS_PER_MACHINE + 5):
        journal.note(ONE, "tftp", number=number)
    before, events = journal.chapter(ONE)
    assert (before, len(events)) == (5, EVENTS_PER_MACHINE)
    assert [event.fields["number"] for event in events] == list(range(5, EVENTS_PER_MACHINE + 5))
    entry = journal.note_question(ONE, "discover", {}, dict)
    journal.go_on(ONE, entry, "offer", {}, dict)
    before, events = journal.chapter(ONE)
    assert before + len(events) == EVENTS_PER_MACHINE + 7, "each event has its number, however many are kept"


def test_a_watcher_is_told_once_and_takes_who_has_something_new() -> None:
    journal = BootJournal(capacity=2)
    journal.note(ONE, "discover")
    told: list[str] = []
    journal.watch(lambda: told.append("news"))
    assert journal.take_touched() == []
    journal.note(ONE, "offer")
    journal.note(TWO, "discover")
    assert told == ["news"]
    assert sorted(journal.take_touched()) == [ONE, TWO]
    entry = journal.note_question(TWO, "discover", {}, dict)
    assert journal.take_touched() == [TWO]
    journal.go_on(TWO, entry, "offer", {}, dict)
    assert (journal.take_touched(), told) == ([TWO], ["news"] * 3)
    for number in range(10):
        journal.note(f"52:54:00:00:01:{number:02x}", "discover")
    assert len(journal.take_touched()) == 2, "who is forgotten is not remembered here either"


def test_without_a_watcher_nothing_is_gathered() -> None:
    journal = BootJournal()
    journal.note(ONE, "discover")
    assert journal.take_touched() == []
