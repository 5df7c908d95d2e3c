# SPDX-License-Identifier: Apache-2.0
"""dpd-probe plays a network-boot client against a running distribution point, packet by packet.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.

It shares no code with dpd: packets are built and read by scapy, so that a fault in dpd's codecs is not made twice. What it
does is told as one JSON object a line on standard output.
"""
