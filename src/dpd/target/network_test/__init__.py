# SPDX-License-Identifier: Apache-2.0
"""Whether the network between a distribution point and this machine is fit for multicast, and if not, why."""
