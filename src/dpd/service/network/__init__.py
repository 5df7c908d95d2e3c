# SPDX-License-Identifier: Apache-2.0
"""The network as the kernel offers it: sockets, interfaces, addresses, neighbours, queues."""
