# SPDX-License-Identifier: Apache-2.0
"""What this machine asks of a distribution point over HTTP, and how long it goes on asking."""
