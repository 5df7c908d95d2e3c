# SPDX-License-Identifier: Apache-2.0
"""Who may ask, and by which door: sockets, tokens, certificates, roles."""
