# SPDX-License-Identifier: Apache-2.0
"""A task sequence as people write it: a TOML text. Everything that is wrong with one is told at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dpd.sequence.records import SequenceError, SequenceProblem, TaskSequence
from dpd.sequence.tree import read_tree
from dpd.toml_lines import NotToml, read_toml

MAX_DOCUMENT_BYTES = 1 << 20
TOLD_PROBLEMS = 20

_LIKE_YAML = re.compile(r"\A\s*(?:#[^\n]*\n\s*)*(?:---|-\s|[A-Za-z_]+\s*:(?:\s|\Z))")


class SequenceRefused(SequenceError):
    """A document that is no sequence, or none to publish, with all that is wrong."""

    def __init__(self, problems: Sequence[SequenceProblem]) -> None:
        told = "; ".join(map(tell, problems[:TOLD_PROBLEMS]))
        more = f"; and {len(problems) - TOLD_PROBLEMS} more" if len(problems) > TOLD_PROBLEMS else ""
        super().__init__(f"nothing was published: {told}{more}")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Document:
    """What was read: a sequence, or problems in the order of their lines."""

    sequence: TaskSequence | None
    problems: tuple[SequenceProblem, ...] = ()


def read_document(text: str) -> Document:
    """Raises nothing."""
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_DOCUMENT_BYTES:
        message = f"{size} bytes, expected at most {MAX_DOCUMENT_BYTES}; put large files into a package"
        return Document(None, (SequenceProblem(0, "", message),))
    try:
        tree, lines = read_toml(text)
    except NotToml as error:
        return Document(None, (SequenceProblem(error.line, "", _not_toml(str(error), text)),))
    sequence, problems = read_tree(tree, lines.line)
    return Document(sequence, problems)


def tell(problem: SequenceProblem) -> str:
    """A problem in one line."""
    line = f"line {problem.line}: " if problem.line else ""
    return f"{line}{problem.place}: {problem.message}" if problem.place else f"{line}{problem.message}"


def _not_toml(message: str, text: str) -> str:
    if _LIKE_YAML.match(text):
        return 'this looks like YAML, which is not taken; expected TOML such as name = "debian" and [[step]]'
    return message
