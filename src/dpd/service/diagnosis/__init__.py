# SPDX-License-Identifier: Apache-2.0
"""Is the network fit for multicast? The daemon's side of `dpd mc-test`, and a querier of last resort."""
