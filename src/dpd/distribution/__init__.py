# SPDX-License-Identifier: Apache-2.0
"""How content comes here, is kept right and leaves: jobs, sources, schedules, validation, bundles. Threads, no event loop."""
