# SPDX-License-Identifier: Apache-2.0
"""An image between the distribution point and a volume: kept, read while it arrives, applied."""
