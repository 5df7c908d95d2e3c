# SPDX-License-Identifier: Apache-2.0
"""Task sequences: what they are made of, how they are written, checked and signed, and what a target and its site say.

No clock, disk or network, and the standard library alone: the machine that is being deployed runs this, too.
"""
