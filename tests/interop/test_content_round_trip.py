# SPDX-License-Identifier: Apache-2.0
"""The life of content at three distribution points, by the command line and by the API, with the same results.

A Debian root of more than 1 GiB in a WIM of two images: published, looked at, one image exported, pulled on to a second
and from there to a third place, damaged and repaired, updated, removed, collected. Then a folder of 20,000 files the same
way. What changes nothing is asked by both doors; what changes something is done by the one at one place and by the
other at the next. What an update may move is told by wimlib, or by the files that differ, and counted by the wire.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.netns import Lan
from tests.interop import debian_wim
from tests.interop.content_places import NAMES, Place, damage, three_places
from tests.interop.doors import Door, Fields, lasting
from tests.interop.media_tree import FILES, FilesMissing, Media, make_media, sha256_of

from dpd.protocol.multicast.geometry import SLAB_BYTES

pytestmark = pytest.mark.interop
FLOOD = 1.2  # bytes moved for each byte changed
TABLES_BYTES = 2 << 20  # description, manifest and chunk index of a content, and what TCP adds


def _fast_folder() -> Path | None:
    """Memory, where there is enough: three libraries take 7 GiB at most, the sources 2.4."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    memory = Path("/dev/shm")
    free = min(int(told["MemAvailable"].split()[0]) << 10, shutil.disk_usage(memory).free if memory.is_dir() else 0)
    return memory if free > 14 << 30 else None


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where what these tests keep lies."""
    if shutil.which("wimlib-imagex") is None or shutil.which("curl") is None:
        pytest.skip("missing: wimlib-imagex (wimtools) or curl")
    folder = Path(tempfile.mkdtemp(prefix="dpd-round-trip-", dir=_fast_folder() or tmp_path_factory.getbasetemp()))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def places(roomy: Path, make_lan: Callable[..., Lan]) -> Iterator[list[Place]]:
    with three_places(make_lan(*NAMES), roomy / "places") as ready:
        empty = [place.stored_bytes() for place in ready]
        yield ready
        assert [place.stored_bytes() for place in ready] == empty  # removed and collected, all is as before
    shutil.rmtree(roomy / "places")


@pytest.fixture
def debian(roomy: Path) -> Iterator[tuple[Path, Path]]:
    """The WIM and its second version, of the same name."""
    first, second = roomy / "debian" / "1" / "debian.wim", roomy / "debian" / "2" / "debian.wim"
    for path in (first, second):
        path.parent.mkdir(parents=True)
    debian_wim.capture(first)
    shutil.copy(first, second)
    debian_wim.update(second, roomy / "debian" / "changes")
    yield first, second
    shutil.rmtree(roomy / "debian")


@pytest.fixture
def media(roomy: Path) -> Iterator[tuple[Media, Media]]:
    try:
        yield make_media(roomy / "media")
    except FilesMissing as error:
        pytest.skip(f"missing: {error}")
    shutil.rmtree(roomy / "media")


def ask_both(place: Place, ask: Callable[[Door], Any]) -> Any:
    """What both doors say of what changes nothing."""
    command, api = (ask(door) for door in place.doors)
    assert lasting(command) == lasting(api)
    return api


class Ways:
    """The second place asked by the command, the third by the API; what they say and how they are then is the same."""

    def __init__(self, places: list[Place]) -> None:
        self._first, *others = places
        self._ways = [(others[0], others[0].command), (others[1], others[1].api)]

    def do(self, ask: Callable[[Door], Any]) -> list[tuple[Place, int]]:
        """Each place, with the bytes that it received meanwhile."""
        said, moved = [], []
        for place, door in self._ways:
            before = place.received_bytes()
            said.append(lasting(ask(door)))
            moved.append((place, place.received_bytes() - before))
        assert said[0] == said[1]
        return moved

    def same_state(self, package: str, state: str = "installed") -> Fields:
        """What is there after it, by both doors at both places."""
        there = [ask_both(place, lambda door: door.state(package)) for place, _ in self._ways]
        assert lasting(there[0]) == lasting(there[1])
        assert there[0]["state"] == state
        contents = [ask_both(place, lambda door: door.show(package)) for place, _ in self._ways]
        assert lasting(contents[0]) == lasting(contents[1])
        return dict(contents[0])


# ---- one large file


def test_a_debian_root_goes_all_the_way(places: list[Place], debian: tuple[Path, Path]) -> None:
    first, second = debian
    dp1, ways = places[0], Ways(places)
    _publish_twice(dp1, first)
    _look_at_images(dp1)
    _distribute_wim(places, ways, sha256_of(first))
    _damage_wim(places, ways)
    changed = debian_wim.changed_bytes(first, second)
    _update_wim(places, ways, second, changed)
    _remove_all(places)


def _publish_twice(place: Place, wim: Path) -> None:
    """By each door under a package of its own, which costs no room."""
    content = place.command.publish(wim, "DEB00001", "os-image", "site=lab")
    assert content["sha256"] == sha256_of(wim)
    assert content["size_bytes"] == wim.stat().st_size >= debian_wim.MINIMUM_BYTES
    stored = place.stored_bytes()
    again = place.api.publish(wim, "DEB00009", "os-image", "site=lab")
    assert lasting(again, "package_id") == lasting(content, "package_id")
    assert place.stored_bytes() - stored < 1 << 20  # a manifest of its own
    assert lasting(place.api.remove("DEB00009")) == lasting(again)
    assert place.stored_bytes() == stored
    assert ask_both(place, lambda door: door.contents()) == [content]
    assert ask_both(place, lambda door: door.contents(tag="edition=Core")) == [content]
    assert ask_both(place, lambda door: door.contents(tag="edition=Home")) == []
    ask_both(place, lambda door: door.verify("DEB00001"))


def _look_at_images(place: Place) -> None:
    """And export one, by each door; wimlib gives each file a GUID of its own, and so another hash."""
    found = ask_both(place, lambda door: door.images("DEB00001"))
    assert [image["name"] for image in found["images"]] == ["Debian", "Debian programs"]
    assert ask_both(place, lambda door: door.verify_images("DEB00001"))["unchecked"] == 0
    exported = place.command.export("DEB00001", 2, "DEB00002")
    assert exported["size_bytes"] < place.api.show("DEB00001")["size_bytes"]
    assert [image["name"] for image in exported["images"]] == ["Debian programs"]
    other = place.api.export("DEB00001", 2, "DEB00003")
    assert lasting(other, "package_id", "sha256") == lasting(exported, "package_id", "sha256")
    assert ask_both(place, lambda door: door.verify_images("DEB00002"))["unchecked"] == 0
    found = ask_both(place, lambda door: door.contents(tag="site=lab"))
    assert [each["package_id"] for each in found] == ["DEB00001", "DEB00002", "DEB00003"]


def _distribute_wim(places: list[Place], ways: Ways, sha256: str) -> None:
    """From the first to the second, and from there to the third, which the first never hears of."""
    dp1, _, dp3 = places
    sent = dp1.host.traffic().sent_bytes
    for place, moved in ways.do(lambda door: door.order("distribute", "DEB00001")):
        size = place.api.show("DEB00001")["size_bytes"]
        assert size <= moved <= 1.05 * size
        assert sha256_of(place.blob(sha256)) == sha256
    assert dp1.host.traffic().sent_bytes - sent < 1.5 * size
    assert ways.same_state("DEB00001")["sha256"] == sha256
    ways.do(lambda door: door.order("distribute", "DEB00002"))
    ways.same_state("DEB00002")
    assert [image["index"] for image in ask_both(dp3, lambda door: door.images("DEB00002"))["images"]] == [1]


def _damage_wim(places: list[Place], ways: Ways) -> None:
    """Three lost bits in two slabs; what is fetched is those slabs, and not the file."""
    sha256 = places[0].api.show("DEB00001")["sha256"]
    for place in places[1:]:
        damage(place.blob(sha256), 5, 100 * SLAB_BYTES, 100 * SLAB_BYTES + 7)
    for place, moved in ways.do(lambda door: door.order("validate", "DEB00001")):
        assert moved <= 2 * SLAB_BYTES + TABLES_BYTES
        assert sha256_of(place.blob(sha256)) == sha256
    ways.same_state("DEB00001")
    ways.do(lambda door: door.verify("DEB00001"))


def _update_wim(places: list[Place], ways: Ways, second: Path, changed: int) -> None:
    published = places[0].command.publish(second, "DEB00001", "os-image", "site=lab")
    assert (published["source_version"], published["sha256"]) == (2, sha256_of(second))
    for place, moved in ways.do(lambda door: door.order("update", "DEB00001")):
        assert moved <= FLOOD * changed, f"{moved} bytes moved for {changed} bytes changed"
        assert sha256_of(place.blob(published["sha256"])) == published["sha256"]
        assert ask_both(place, lambda door: door.state("DEB00001"))["versions"] == [2]
    assert lasting(ways.same_state("DEB00001")) == lasting(published)


def _remove_all(places: list[Place]) -> None:
    """By either door in turn, until nothing is left; then garbage is looked for and collected."""
    for place in places:
        for number, content in enumerate(ask_both(place, lambda door: door.contents())):
            door = place.doors[number % 2]
            assert lasting(door.remove(content["package_id"]))["package_id"] == content["package_id"]
        assert ask_both(place, lambda door: door.contents()) == []
        report = ask_both(place, lambda door: door.collect(delete=False))
        assert (report["missing"], report["garbage_blobs"]) == ([], 0)
        ask_both(place, lambda door: door.collect(delete=True))


# ---- many files


def test_a_folder_of_many_files_goes_all_the_way(places: list[Place], media: tuple[Media, Media]) -> None:
    first, second = media
    ways = Ways(places)
    _publish_folder(places[0], first)
    ways.do(lambda door: door.order("distribute", "MEDIA001"))
    ways.same_state("MEDIA001")
    for place in places[1:]:
        _check_stored(place, set(first.sizes))
    _damage_files(places, ways, first)
    _update_files(places, ways, second, second.changed_bytes(first))
    _remove_all(places)
    for place in places:
        _check_stored(place, set())


def _publish_folder(place: Place, media: Media) -> None:
    content = place.command.publish(media.folder, "MEDIA001", "os-upgrade-package", "site=lab")
    assert (content["kind"], content["file_count"]) == ("os-upgrade-package", FILES + 1)
    assert content["size_bytes"] == sum(path.stat().st_size for path in media.folder.rglob("*") if path.is_file())
    stored = place.stored_bytes()
    again = place.api.publish(media.folder, "MEDIA009", "os-upgrade-package", "site=lab")
    assert lasting(again, "package_id") == lasting(content, "package_id")
    assert place.stored_bytes() == stored
    assert lasting(place.api.remove("MEDIA009")) == lasting(again)
    assert ask_both(place, lambda door: door.contents(tag="edition=Core", kind="os-upgrade-package")) == [content]
    ask_both(place, lambda door: door.verify("MEDIA001"))
    assert ask_both(place, lambda door: door.images("MEDIA001"))["file"] == "sources/install.wim"
    exported = [door.export("MEDIA001", 2, f"MEDIA00{number}") for number, door in enumerate(place.doors, 2)]
    assert lasting(exported[0], "package_id", "sha256") == lasting(exported[1], "package_id", "sha256")
    _check_stored(place, {*media.sizes, *(each["sha256"] for each in exported)})


def _check_stored(place: Place, hashes: set[str]) -> None:
    """Exactly these blobs are there, each with the content of its name."""
    found = {path.name: path for path in (place.library / "blobs").glob("??/*") if not path.suffix}
    assert found.keys() == hashes
    assert [name for name, path in found.items() if sha256_of(path) != name] == []


def _damage_files(places: list[Place], ways: Ways, media: Media) -> None:
    """One file with another bit, one that is shorter, one that is gone."""
    flipped, cut, gone, *_ = (sha256 for sha256, size in sorted(media.sizes.items()) if 1000 < size < 100_000)
    for place in places[1:]:
        damage(place.blob(flipped), 500)
        os.truncate(place.blob(cut), 100)
        place.blob(gone).unlink()
    for place, moved in ways.do(lambda door: door.order("validate", "MEDIA001")):
        assert moved <= sum(media.sizes[each] for each in (flipped, cut, gone)) + TABLES_BYTES
        _check_stored(place, set(media.sizes))
    ways.do(lambda door: door.verify("MEDIA001"))


def _update_files(places: list[Place], ways: Ways, second: Media, changed: int) -> None:
    published = places[0].api.publish(second.folder, "MEDIA001", "os-upgrade-package", "site=lab")
    for place, moved in ways.do(lambda door: door.order("update", "MEDIA001")):
        assert moved <= FLOOD * changed, f"{moved} bytes moved for {changed} bytes changed"
        _check_stored(place, set(second.sizes))
    assert lasting(ways.same_state("MEDIA001")) == lasting(published)
    ways.do(lambda door: door.verify("MEDIA001"))
