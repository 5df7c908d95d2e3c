# SPDX-License-Identifier: Apache-2.0
"""Takes reports into the book of the folder that it is given, saying each number that it confirmed, until it is killed."""

import sys
from pathlib import Path

from tests.deployment.executions import begin, open_book, said

book = open_book(Path(sys.argv[1]))
id = begin(book)
print(id, flush=True)
for number in range(1, 100_000):
    receipt = book.take_reports(id, [said(number, "2.1", "progress", f"word {number}")], 1100.0)
    print(receipt.next - 1, flush=True)
