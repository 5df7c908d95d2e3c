# SPDX-License-Identifier: Apache-2.0
"""What goes over the API, part by part, with the rules that each field is checked by."""
