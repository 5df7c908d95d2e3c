# SPDX-License-Identifier: Apache-2.0
"""What every step has to work with: state, log, programs, volumes, content, facts of the machine."""
