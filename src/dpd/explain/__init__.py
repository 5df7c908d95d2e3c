# SPDX-License-Identifier: Apache-2.0
"""What happened at a boot, in plain words, and what to do about it. No I/O."""
