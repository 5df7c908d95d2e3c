# SPDX-License-Identifier: Apache-2.0
"""The receiver's end of a session, for the machine being deployed too: the standard library alone."""
