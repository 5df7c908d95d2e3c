# SPDX-License-Identifier: Apache-2.0
"""Replies of the API that go on: what changes, and how a long job goes."""
