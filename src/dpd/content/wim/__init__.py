# SPDX-License-Identifier: Apache-2.0
"""The Windows Imaging Format, as much as a distribution point needs: read by our own code, changed by wimlib."""
