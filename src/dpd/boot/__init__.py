# SPDX-License-Identifier: Apache-2.0
"""Boot artefacts: what is in boot images, and what is made for one machine alone."""
