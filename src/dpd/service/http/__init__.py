# SPDX-License-Identifier: Apache-2.0
"""HTTP for the machines being deployed: content, boot files, task sequences, and the door to multicast."""
