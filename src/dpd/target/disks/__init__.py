# SPDX-License-Identifier: Apache-2.0
"""Partitions and file systems: made, told to the kernel, protected."""
