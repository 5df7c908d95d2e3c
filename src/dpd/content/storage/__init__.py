# SPDX-License-Identifier: Apache-2.0
"""Where the library lies: folders, blobs, and the rows that tell of them."""
