# SPDX-License-Identifier: Apache-2.0
"""Deployments under way: which machine runs which task sequence, how far it is, what it left behind."""
