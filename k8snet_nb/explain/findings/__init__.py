"""Findings: everything that the kit can judge of a cluster, each with a stable code, its evidence and a next step."""

from __future__ import annotations

from .codes import CODES, SEVERITIES, Code
from .finding import Finding, in_order

__all__ = ["CODES", "SEVERITIES", "Code", "Finding", "in_order"]
