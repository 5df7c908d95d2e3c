# SPDX-License-Identifier: Apache-2.0
"""A session and its places: who is admitted where, what a receiver is told, what stays of it when it goes."""
