# SPDX-License-Identifier: Apache-2.0
"""The distributed engine: NATS, as far as dpd uses it."""
