# SPDX-License-Identifier: Apache-2.0
"""Network boot beside any lease server: proxyDHCP, DHCPv6, and who else answers."""
