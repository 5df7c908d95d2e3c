# SPDX-License-Identifier: Apache-2.0
"""dpd, an open distribution point for operating-system deployment."""

__version__ = "0.1.0"
