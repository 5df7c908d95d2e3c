# SPDX-License-Identifier: Apache-2.0
"""The repository layout in a folder: whole, brought up to date, and never of two owners."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.stocked import open_library, publish_image, publish_tree

from dpd.content import repository
from dpd.content.description import decode_signed
from dpd.content.library import Library
from dpd.distribution.bundles.plan import choose, plan
from dpd.distribution.bundles.repository_folder import Exported, RepositoryFolder
from dpd.errors import ContentError, JobCancelled


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library") as library:
        publish_image(library, tmp_path)
        publish_tree(library, tmp_path)
        yield library


def export(library: Library, folder: Path, *names: str) -> Exported:
    made = plan(library, choose(library, names))
    return RepositoryFolder(folder, lambda done, total: None, lambda: None).write(made)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_the_layout_with_every_byte(library: Library, tmp_path: Path) -> None:
    done = export(library, tmp_path / "web")
    found = files(tmp_path / "web")
    expected = {each.file.path: b"".join(each.pieces()) for each in plan(library, library.contents()).files}
    assert found == expected
    assert done == Exported(len(expected), sum(map(len, expected.values())), 0)
    described = decode_signed(found[repository.description("LAB00002", 1)], library.public_key())
    assert {each.sha256 for each in described.files} == {
        path.rpartition("/")[2] for path in found if "/blobs/" in path
    } - {library.find("LAB00001").sha256}


def test_again_it_writes_what_is_new_alone(library: Library, tmp_path: Path) -> None:
    export(library, tmp_path / "web")
    before = files(tmp_path / "web")
    assert export(library, tmp_path / "web").written == 0
    publish_image(library, tmp_path, seed=9)
    done = export(library, tmp_path / "web")
    new = files(tmp_path / "web").keys() - before.keys()
    assert done.written == len(new) + 1  # and the number of the newest version
    assert repository.decode_newest((tmp_path / "web" / repository.newest("LAB00001")).read_bytes()) == 2


def test_an_older_version_does_not_become_the_newest(library: Library, tmp_path: Path) -> None:
    publish_image(library, tmp_path, seed=9)
    export(library, tmp_path / "web")
    export(library, tmp_path / "web", "LAB00001:1")
    assert repository.decode_newest((tmp_path / "web" / repository.newest("LAB00001")).read_bytes()) == 2


def test_what_is_wrong_there_is_written_again(library: Library, tmp_path: Path) -> None:
    export(library, tmp_path / "web")
    good = files(tmp_path / "web")
    image = library.find("LAB00001")
    (tmp_path / "web" / repository.blob(image.sha256)).write_bytes(b"cut off")
    (tmp_path / "web" / repository.manifest("LAB00001", 1)).write_bytes(b"{}")
    (tmp_path / "web" / repository.newest("LAB00001")).write_bytes(b"{")
    assert export(library, tmp_path / "web").written == 3
    assert files(tmp_path / "web") == good


def test_the_folder_of_another_one_is_left_alone(library: Library, tmp_path: Path) -> None:
    with open_library(tmp_path / "other") as other:
        publish_image(other, tmp_path, "LAB00007")
        export(other, tmp_path / "web")
    before = files(tmp_path / "web")
    with pytest.raises(ContentError, match="the repository of another distribution point"):
        export(library, tmp_path / "web")
    assert files(tmp_path / "web") == before


def test_a_folder_that_cannot_be_written_is_told(library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ContentError, match=r"file.*export into a folder with room"):
        export(library, tmp_path / "file" / "web")


def test_a_cancelled_export_leaves_no_half_file(library: Library, tmp_path: Path) -> None:
    made, left = plan(library, library.contents()), [4]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise JobCancelled("cancelled")

    with pytest.raises(JobCancelled):
        RepositoryFolder(tmp_path / "web", lambda done, total: None, check).write(made)
    sizes = {each.file.path: each.file.size_bytes for each in made.files}
    assert all(sizes[path] == len(content) for path, content in files(tmp_path / "web").items())
    export(library, tmp_path / "web")
    assert files(tmp_path / "web").keys() == sizes.keys()


def test_a_disk_without_room_leaves_whole_files(library: Library, tmp_path: Path) -> None:
    """In a child of its own whose files may not grow beyond 2 MiB: the image does not fit, everything else does."""
    library.close()
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.distribution.bundles.test_repository_folder import export\n"
        "from tests.distribution.stocked import open_library\n"
        "from dpd.errors import ContentError\n"
        "with open_library(Path(sys.argv[1])) as library:\n"
        "    try:\n"
        "        export(library, Path(sys.argv[2]))\n"
        "    except ContentError as error:\n"
        "        print(error)\n"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "library", tmp_path / "web"],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root}/src"},
        preexec_fn=_no_big_files,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large; export into a folder with room" in run.stdout, run.stderr
    assert not list((tmp_path / "web").rglob("*.part"))
    assert not list((tmp_path / "web").rglob("newest"))  # nobody is told of what is not there


def _no_big_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
