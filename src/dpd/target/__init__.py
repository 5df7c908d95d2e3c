# SPDX-License-Identifier: Apache-2.0
"""What runs on the machine being deployed: the standard library alone, shipped as one zipapp."""
