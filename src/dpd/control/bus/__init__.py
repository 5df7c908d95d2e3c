# SPDX-License-Identifier: Apache-2.0
"""A distribution point at its site's bus: asks, policy, runs, status messages, what it is to hold."""
