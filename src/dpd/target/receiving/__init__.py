# SPDX-License-Identifier: Apache-2.0
"""An image into a file: by multicast, by HTTP, or by both in turn."""
