# SPDX-License-Identifier: Apache-2.0
"""The site server: one role that holds the site model and steers any number of distribution points."""
