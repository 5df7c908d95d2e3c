# SPDX-License-Identifier: Apache-2.0
"""The operations over HTTP and JSON."""
