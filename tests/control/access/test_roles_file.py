# SPDX-License-Identifier: Apache-2.0
"""The file of roles: what may be in it, and changes that keep what an operator wrote."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.control.access.callers import Role
from dpd.control.access.roles_file import (
    NamedCertificate,
    Roles,
    RolesFile,
    RolesRefused,
    Token,
    add_token,
    hash_token,
    parse_roles,
    read_roles,
    remove_token,
)
from dpd.errors import SettingsError

HASH = "a" * 64
WRITTEN = f"""\
# mine

[[token]]  # the site
name = "site"
role = "admin"
sha256 = "{HASH}"

# of the page in the office
[[token]]
name = "office page"
role = "viewer"
sha256 = "{"b" * 64}"

# branch offices
[[certificate]]
name = "branch.example"
role = "operator"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "roles.toml"
    path.write_text(WRITTEN)
    return path


def test_the_file_is_read(path: Path) -> None:
    assert read_roles(path) == Roles(
        (Token("site", Role.ADMIN, HASH), Token("office page", Role.VIEWER, "b" * 64)),
        (NamedCertificate("branch.example", Role.OPERATOR),),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[token]", "not TOML: "),
        ("[tokens]", "unknown table 'tokens'; expected [[token]] or [[certificate]]"),
        ("[token]\nname = 'a'", "token: expected tables written [[token]]"),
        ("token = [1]", "token: expected tables written [[token]]"),
        ("[[token]]\nname = 'a'\nrole = 'admin'", "[[token]] number 1: sha256 is missing; expected name, role, sha256"),
        (f"[[token]]\nname = 'a'\nrole = 'root'\nsha256 = '{HASH}'", "[[token]] number 1: role: expected one of viewer, operator, admin"),
        (f"[[token]]\nname = 'a'\nrole = 1\nsha256 = '{HASH}'", "[[token]] number 1: role: expected one of viewer, operator, admin"),
        (f"[[token]]\nname = ''\nrole = 'admin'\nsha256 = '{HASH}'", "[[token]] number 1: name: expected 1 to 64 of"),
        ("[[token]]\nname = 'a'\nrole = 'admin'\nsha256 = 'hunter2'", "[[token]] number 1: sha256: expected 64 hexadecimal digits, the SHA-256 of the token"),
        ("[[token]]\nname = 'a'\nrole = 'admin'\ntoken = 'hunter2'", "[[token]] number 1: unknown key 'token'; expected name, role, sha256"),
        ('[[certificate]]\nname = "a\\u0007"\nrole = "admin"', "[[certificate]] number 1: name: expected the common name"),
        ("[[certificate]]\nname = 'a'\nrole = 'admin'\n" * 2, "certificate 'a': there twice; expected names that differ"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_and_never_with_a_secret(path: Path, text: str, problem: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_roles(path)
    assert str(caught.value).startswith(f'control.roles_file = "{path}": {problem}')
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_trusted_or_read_are_told(path: Path, tmp_path: Path) -> None:
    path.chmod(0o666)
    with pytest.raises(SettingsError, match="everyone may write to it; `chmod o= "):
        read_roles(path)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not UTF-8 text: byte 0"):
        read_roles(path)
    with pytest.raises(SettingsError, match="No such file or directory; `dpd token add NAME --role operator` makes it"):
        read_roles(tmp_path / "none")


def test_a_token_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    token = add_token(path, "bea", Role.OPERATOR)
    assert len(token) >= 40
    assert token not in path.read_text()
    roles = read_roles(path)
    assert roles.bearer(token) == Token("bea", Role.OPERATOR, hash_token(token))
    assert roles.bearer(token[:-1]) is None
    assert roles.bearer(roles.tokens[0].sha256) is None
    assert add_token(path, "cay", Role.OPERATOR) != token


def test_a_new_file_is_not_for_everyone_and_an_old_one_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    add_token(path, "bea", Role.OPERATOR)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    add_token(path, "cay", Role.VIEWER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert [each.name for each in tmp_path.iterdir()] == ["roles.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_root_makes_it_for_the_group_of_dpd_and_leaves_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    add_token(path, "bea", Role.OPERATOR, group=1)
    assert path.stat().st_gid == 1
    os.chown(path, 2, 3)
    remove_token(path, "bea")
    assert (path.stat().st_uid, path.stat().st_gid) == (2, 3)


def test_what_an_operator_wrote_stays_when_tokens_come_and_go(path: Path) -> None:
    add_token(path, "new", Role.VIEWER)
    assert path.read_text().startswith(WRITTEN)
    remove_token(path, "new")
    assert path.read_text().strip() == WRITTEN.strip()
    assert remove_token(path, "site") == Token("site", Role.ADMIN, HASH)
    left = path.read_text()
    assert "# mine" in left
    assert '# of the page in the office\n[[token]]\nname = "office page"' in left
    assert HASH not in left
    remove_token(path, "office page")
    assert "# branch offices\n[[certificate]]" in path.read_text()
    assert read_roles(path) == Roles((), (NamedCertificate("branch.example", Role.OPERATOR),))


def test_a_change_that_cannot_be_is_told_and_does_nothing(path: Path, tmp_path: Path) -> None:
    for name, problem in {
        "site": "site: there is a token of this name; `dpd token remove site` takes it back",
        "": "'': expected 1 to 64 of",
        "a\nb": "'a\\nb': expected 1 to 64 of",
    }.items():
        with pytest.raises(RolesRefused) as caught:
            add_token(path, name, Role.ADMIN)
        assert str(caught.value).startswith(problem)
    with pytest.raises(RolesRefused, match=r"nobody: no token of this name; .*: site, office page"):
        remove_token(path, "nobody")
    with pytest.raises(RolesRefused, match=r"No such file or directory; expected the folder of control.roles_file"):
        add_token(tmp_path / "no" / "roles.toml", "bea", Role.ADMIN)
    with pytest.raises(RolesRefused, match="bea: no token of this name, and no "):
        remove_token(tmp_path / "none.toml", "bea")
    assert path.read_text() == WRITTEN


def test_a_file_written_in_another_way_is_left_for_hands(path: Path) -> None:
    text = f"token = [{{name = 'a', role = 'admin', sha256 = '{HASH}'}}]\n"
    path.write_text(text)
    for change in (lambda: add_token(path, "bea", Role.ADMIN), lambda: remove_token(path, "a")):
        with pytest.raises(RolesRefused, match="is written in a way that dpd does not change; edit it by hand"):
            change()
    assert path.read_text() == text


def test_changes_at_once_all_count(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: add_token(path, f"t{number}", Role.VIEWER), range(16)))
    assert {each.name for each in read_roles(path).tokens} == {"site", "office page", *(f"t{n}" for n in range(16))}


def test_the_file_is_read_again_when_it_has_changed_and_not_before(path: Path) -> None:
    told: list[str] = []
    roles = RolesFile(path)
    first = roles.current(told.append)
    assert roles.current(told.append) is first
    add_token(path, "bea", Role.VIEWER)
    assert [each.name for each in roles.current(told.append).tokens] == ["site", "office page", "bea"]
    assert told == []


def test_a_token_taken_back_in_a_file_that_cannot_be_read_yet_is_known_no_longer_than_that(path: Path) -> None:
    told: list[str] = []
    now = 0.0
    roles = RolesFile(path, monotonic=lambda: now)
    remove_token(path, "site")
    path.chmod(0o666)  # an editor's umask; a full table of files has the same end
    for _ in range(3):
        assert [each.name for each in roles.current(told.append).tokens] == ["site", "office page"]
    assert len(told) == 1
    assert "who was known stays known" in told[0]
    path.chmod(0o640)
    assert [each.name for each in roles.current(told.append).tokens] == ["office page"]


def test_what_keeps_a_file_from_being_read_may_pass_without_a_change_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    now = 0.0
    roles = RolesFile(path, monotonic=lambda: now)
    remove_token(path, "site")
    with monkeypatch.context() as full:
        full.setattr(Path, "open", _no_more_files)
        for moment in (0.0, 5.0):
            now = moment
            assert [each.name for each in roles.current(told.append).tokens] == ["site", "office page"]
    assert len(told) == 1
    now = 10.0
    assert [each.name for each in roles.current(told.append).tokens] == ["office page"]
    assert len(told) == 1


def _no_more_files(*_: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@given(st.text(max_size=200))
def test_any_text_is_roles_or_a_refusal_in_one_line(text: str) -> None:
    problem = ""
    try:
        parse_roles(text)
    except ValueError as error:
        problem = str(error)
    assert "\n" not in problem
