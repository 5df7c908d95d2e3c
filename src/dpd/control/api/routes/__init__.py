# SPDX-License-Identifier: Apache-2.0
"""The API's routes, part by part: what is asked, by which role, and how it is answered."""
