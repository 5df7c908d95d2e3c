# SPDX-License-Identifier: Apache-2.0
"""What makes a disk start: GRUB's menu and boot record, Windows' boot files and configuration."""
