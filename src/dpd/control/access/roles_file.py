# SPDX-License-Identifier: Apache-2.0
"""The file that says who may ask over TCP and in which role: [[token]] by SHA-256, [[certificate]] by common name.

A token is a random text that only its bearer has; the file holds its hash, so whoever reads the file cannot be the
bearer. Changes are made in the text, so that an operator's comments stay, and take their place in one rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd.control.access.callers import Role
from dpd.errors import DpdError, SettingsError

MAX_FILE_BYTES = 1 << 20
RETRY_S = 1.0  # before a file that could not be read is asked again
TOKEN_BYTES = 32
TOKEN_PREFIX = "dpd_"  # by which scanners for secrets find one that was left in a repository
MODE = 0o640

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,63}(?<! )")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLES = ", ".join(Role)
_TABLE = re.compile(r"\s*\[")
_TOKEN_TABLE = re.compile(r"\s*\[\[\s*token\s*\]\]")
_HEAD = """\
# Who may ask dpd over TCP, and in which role: viewer, operator or admin. `dpd token` writes this file; comments stay.
# A client's certificate is known by its common name:
#   [[certificate]]
#   name = "site.example"
#   role = "admin"
"""


class RolesRefused(DpdError):
    """A change of the file that cannot be."""


@dataclass(frozen=True, slots=True)
class Token:
    """Whoever has the text with this hash is `name`."""

    name: str
    role: Role
    sha256: str


@dataclass(frozen=True, slots=True)
class NamedCertificate:
    """Whoever has a certificate of control.client_ca_file with this common name."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Roles:
    """The file, read."""

    tokens: tuple[Token, ...] = ()
    certificates: tuple[NamedCertificate, ...] = ()

    def bearer(self, token: str) -> Token | None:
        """Whose token that is. What is compared are hashes, so the time it takes tells nothing of a token."""
        asked = hash_token(token)
        return next((each for each in self.tokens if each.sha256 == asked), None)

    def certificate(self, name: str) -> NamedCertificate | None:
        """What a common name may do."""
        return next((each for each in self.certificates if each.name == name), None)


class RolesFile:
    """The roles as the file has them now. One that is broken changes nothing, one that is gone means nobody."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises SettingsError."""
        self.path = path
        self._monotonic = monotonic
        self._seen = _look(path)
        self._roles = read_roles(path)
        self._problem = ""
        self._retry_at = 0.0  # where there is a problem

    def current(self, tell: Callable[[str], object]) -> Roles:
        """What the file says, read again where it has changed, or could not be read; `tell` gets what is wrong with it, once."""
        seen = _look(self.path)
        if seen != self._seen or (self._problem and self._monotonic() >= self._retry_at):
            self._seen = seen
            try:
                self._roles = read_roles(self.path) if seen is not None else Roles()
            except SettingsError as error:
                self._keep(str(error), tell)
            else:
                self._problem = ""
                if seen is None:
                    tell(f'control.roles_file = "{self.path}": is gone; nobody is known by it')
        return self._roles

    def _keep(self, problem: str, tell: Callable[[str], object]) -> None:
        """What keeps a file from being read may pass without a change of the file, and a token that was taken back in it is not to
        be known for longer than that."""
        if problem != self._problem:
            tell(f"{problem}; who was known stays known")
        self._problem, self._retry_at = problem, self._monotonic() + RETRY_S


def _look(path: Path) -> tuple[int, ...] | None:
    """What differs when a file was written, replaced or given other rights; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


# ---- reading


def read_roles(path: Path) -> Roles:
    """Raises SettingsError that names the entry; never shows what the file holds of a token."""
    setting = f'control.roles_file = "{path}"'
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IWOTH:
                raise SettingsError(f"{setting}: everyone may write to it; `chmod o= {path}`")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{setting}: {error.strerror}; `dpd token add NAME --role operator` makes it") from None
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{setting}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return parse_roles(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{setting}: not UTF-8 text: byte {error.start}") from None
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None


def parse_roles(text: str) -> Roles:
    """Roles out of TOML text. Raises ValueError with one line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    for key in document:
        if key not in ("token", "certificate"):
            raise ValueError(f"unknown table {key[:40]!r}; expected [[token]] or [[certificate]]")
    tokens = tuple(_token(entry, where) for entry, where in _entries(document, "token"))
    certificates = tuple(_certificate(entry, where) for entry, where in _entries(document, "certificate"))
    for kind, names in (("token", tokens), ("certificate", certificates)):
        seen: set[str] = set()
        for each in names:
            if each.name in seen:
                raise ValueError(f"{kind} {each.name!r}: there twice; expected names that differ")
            seen.add(each.name)
    return Roles(tokens, certificates)


def _entries(document: dict[str, Any], table: str) -> Iterator[tuple[dict[str, Any], str]]:
    entries = document.get(table, [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError(f"{table}: expected tables written [[{table}]]")
    for number, entry in enumerate(entries, 1):
        yield entry, f"[[{table}]] number {number}"


def _token(entry: dict[str, Any], where: str) -> Token:
    _check_keys(entry, where, ("name", "role", "sha256"))
    if not is_name(entry["name"]):
        raise ValueError(f"{where}: name: expected 1 to 64 of A-Z, a-z, 0-9, '.', '_', '@', '-' and blanks inside")
    if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{where}: sha256: expected 64 hexadecimal digits, the SHA-256 of the token")
    return Token(entry["name"], _role(entry["role"], where), entry["sha256"])


def _certificate(entry: dict[str, Any], where: str) -> NamedCertificate:
    _check_keys(entry, where, ("name", "role"))
    name = entry["name"]
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():  # ub-common-name, RFC 5280
        raise ValueError(f"{where}: name: expected the common name of the certificate, 1 to 64 characters")
    return NamedCertificate(name, _role(entry["role"], where))


def _check_keys(entry: dict[str, Any], where: str, keys: tuple[str, ...]) -> None:
    for key in entry:
        if key not in keys:
            raise ValueError(f"{where}: unknown key {key[:40]!r}; expected {', '.join(keys)}")
    for key in keys:
        if key not in entry:
            raise ValueError(f"{where}: {key} is missing; expected {', '.join(keys)}")


def _role(value: object, where: str) -> Role:
    if value not in tuple(Role):
        raise ValueError(f"{where}: role: expected one of {_ROLES}")
    return Role(str(value))


def is_name(value: object) -> bool:
    """Whether a token may be called that."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


# ---- changing


def add_token(path: Path, name: str, role: Role, *, group: int | None = None) -> str:
    """A new token, which is told here and nowhere else. A new file is for this group. Raises RolesRefused, SettingsError."""
    if not is_name(name):
        raise RolesRefused(f"{name[:64]!r}: expected 1 to 64 of A-Z, a-z, 0-9, '.', '_', '@', '-' and blanks inside")
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    with _held(path):
        text, roles = _text_of(path)
        if any(each.name == name for each in roles.tokens):
            raise RolesRefused(f"{name}: there is a token of this name; `dpd token remove {name}` takes it back")
        new = Token(name, role, hash_token(token))
        entry = f'\n[[token]]\nname = {json.dumps(name)}\nrole = "{role}"\nsha256 = "{new.sha256}"\n'
        text += ("" if not text or text.endswith("\n") else "\n") + entry
        _put(path, text, Roles((*roles.tokens, new), roles.certificates), group)
    return token


def remove_token(path: Path, name: str) -> Token:
    """Nobody is known by this token from now on. Raises RolesRefused, SettingsError."""
    with _held(path):
        if not path.exists():
            raise RolesRefused(f"{name}: no token of this name, and no {path}")
        text, roles = _text_of(path)
        at = next((at for at, each in enumerate(roles.tokens) if each.name == name), None)
        if at is None:
            known = ", ".join(each.name for each in roles.tokens) or "none"
            raise RolesRefused(f"{name[:64]}: no token of this name; `dpd token list` shows those there are: {known}")
        left = Roles(roles.tokens[:at] + roles.tokens[at + 1 :], roles.certificates)
        _put(path, _without(text, at), left, None)
    return roles.tokens[at]


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Two changes at once: one after the other."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RolesRefused(f"{path.parent}: {error.strerror}; expected the folder of control.roles_file") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _text_of(path: Path) -> tuple[str, Roles]:
    if not path.exists():
        return _HEAD, Roles()
    roles = read_roles(path)
    return path.read_text(encoding="utf-8"), roles


def _without(text: str, at: int) -> str:
    """The text less its token number `at`; a comment above the next table stays with that."""
    lines = text.splitlines(keepends=True)
    tables = [number for number, line in enumerate(lines) if _TABLE.match(line)]
    tokens = [number for number in tables if _TOKEN_TABLE.match(lines[number])]
    if at >= len(tokens):
        return text  # written in another way than by [[token]]
    begin = tokens[at]
    end = next((number for number in tables if number > begin), len(lines))
    while end > begin + 1 and lines[end - 1].lstrip()[:1] in ("#", ""):
        end -= 1
    return "".join(lines[:begin] + lines[end:])


def _put(path: Path, text: str, meant: Roles, group: int | None) -> None:
    """Replace the file by one that says what is meant, with the owner and mode of the old one."""
    try:
        says = parse_roles(text)
    except ValueError:
        says = None
    if says != meant:
        raise RolesRefused(f"{path}: is written in a way that dpd does not change; edit it by hand")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        new = Path(name)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                _take_over(file.fileno(), path, group)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RolesRefused(
            f"{path}: {error.strerror}; run this as root, or as the user that may write to {path.parent}"
        ) from None


def _take_over(descriptor: int, path: Path, group: int | None) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        if group is not None and os.geteuid() == 0:
            os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, MODE)
        return
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
