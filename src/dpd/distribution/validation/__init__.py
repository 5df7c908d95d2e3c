# SPDX-License-Identifier: Apache-2.0
"""Everything is read again when it is due; what is damaged is mended from elsewhere."""
