# SPDX-License-Identifier: Apache-2.0
"""Policy: which machine may boot what. Nothing here but its store touches a disk, and nothing the network."""
