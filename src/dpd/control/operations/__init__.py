# SPDX-License-Identifier: Apache-2.0
"""The verbs: what may be asked of dpd, by whichever door."""
