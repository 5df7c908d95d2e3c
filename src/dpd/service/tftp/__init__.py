# SPDX-License-Identifier: Apache-2.0
"""TFTP for firmware and loaders: read requests, one transfer each, or one for many."""
