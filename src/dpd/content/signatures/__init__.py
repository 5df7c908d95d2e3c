# SPDX-License-Identifier: Apache-2.0
"""Ed25519 over canonical JSON, with what the machine has for it."""
