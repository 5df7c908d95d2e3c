# SPDX-License-Identifier: Apache-2.0
"""A run from the boot ticket to its end: each step in its turn, written down, told to the site, over restarts."""
