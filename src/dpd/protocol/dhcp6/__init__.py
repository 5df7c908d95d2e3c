# SPDX-License-Identifier: Apache-2.0
"""DHCPv6: the frame, relays around it, and what stands inside the options that network boot needs."""
