# SPDX-License-Identifier: Apache-2.0
"""The deployment environment: a small Linux made of Debian's packages, or the operator's WinPE, each with our target inside."""
