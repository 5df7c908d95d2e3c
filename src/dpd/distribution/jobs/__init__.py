# SPDX-License-Identifier: Apache-2.0
"""Orders that outlive the process: queued, run by worker threads, tried again, told of."""
