# SPDX-License-Identifier: Apache-2.0
"""`python -m dpd`."""

from dpd.cli import main

main()
