# SPDX-License-Identifier: Apache-2.0
"""Content from other places: sources in their order, hours and rates, blobs verified as they come."""
