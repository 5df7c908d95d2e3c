# SPDX-License-Identifier: Apache-2.0
"""Writes what the new system configures itself by at its first start, with variables put in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from xml.parsers import expat

from dpd.sequence.variables import Variable, Variables
from dpd.target.disks.ntfs_protection import make_folders, protect
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.volumes import inside
from dpd.target.work.whole_file import beside, replacing
from dpd.target.work.work import Work

_DEFAULT_PATHS = {
    "unattend": "Windows/Panther/unattend.xml",
    "cloud-init": "var/lib/cloud/seed/nocloud",
    "preseed": "preseed.cfg",
}


def run(work: Work) -> str:
    kind = work.step.text("format")
    path = work.text("path") or _DEFAULT_PATHS.get(kind, "")
    if not path.strip("/"):
        raise StepFailed("path is not set; a configuration of the format file needs one, such as etc/hostname")
    root = work.volumes.folder(work.text("volume"))
    if kind == "cloud-init":
        return _write_cloud_init(work, root, path)
    text = _unattend(work) if kind == "unattend" else work.text("text")
    _write(work, root, path, text)
    return f"{path}, {len(text.encode())} bytes"


def _write_cloud_init(work: Work, root: Path, folder: str) -> str:
    """A seed of NoCloud: user-data and meta-data are needed, also when they are empty."""
    meta_data = work.text("meta_data") or f"instance-id: dpd-{work.state.execution}\n"
    files = {"user-data": work.text("user_data") or "#cloud-config\n", "meta-data": meta_data}
    if network := work.text("network_config"):
        files["network-config"] = network
    for name, text in files.items():
        _write(work, root, f"{folder}/{name}", text)
    return f"{folder}: {', '.join(files)}"


def _unattend(work: Work) -> str:
    """What variables hold is text there, whatever characters it has; the whole is to be XML."""
    as_text = Variables(Variable(each.name, _as_xml_text(each.value), each.secret) for each in work.variables)
    text = as_text.substitute(work.step.text("text"))
    try:
        expat.ParserCreate().Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise StepFailed(
            f"text: is no XML: {expat.ErrorString(error.code)} in line {error.lineno}; Windows Setup would stop there"
        ) from None
    return text


def _as_xml_text(value: str) -> str:
    """Good for an attribute, too. The standard library's own brings a client for HTTP and e-mail along."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        value = value.replace(character, entity)
    return value


def _write(work: Work, root: Path, path: str, text: str) -> None:
    """All of the file or nothing; its folders are made."""
    place, volume = inside(root, path), work.volumes.find(work.text("volume"))
    make_folders(volume, place.parent)
    with replacing(place) as file:
        os.fchmod(file.fileno(), _mode(work))
        protect(volume, beside(place), is_readable=bool(_mode(work) & stat.S_IROTH))  # before the text is in it
        file.write(text.encode())


def _mode(work: Work) -> int:
    text = work.text("mode")
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise StepFailed(f"mode {text!r}: expected octal digits such as 0600")
    return mode
