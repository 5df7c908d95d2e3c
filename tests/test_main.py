# SPDX-License-Identifier: Apache-2.0
"""`python -m dpd`."""

import subprocess
import sys

from dpd import __version__


def test_the_package_is_a_program() -> None:
    ended = subprocess.run([sys.executable, "-m", "dpd", "--version"], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (f"dpd {__version__}\n", "")
