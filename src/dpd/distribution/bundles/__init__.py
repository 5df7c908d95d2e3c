# SPDX-License-Identifier: Apache-2.0
"""Prestaged content: signed archives and folders of the repository's layout."""
