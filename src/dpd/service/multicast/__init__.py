# SPDX-License-Identifier: Apache-2.0
"""Sessions: one image to everybody who wants it, at once."""
