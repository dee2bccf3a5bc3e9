"""A planned namespace built by tools that run inside it. What a tool refuses is left out, and listed with its words."""

from __future__ import annotations

from pathlib import Path

from .loading_run import Run, run_steps
from .model import LeftOut, NodePlan
from .nfacct import make_accounting

__all__ = ["build_space", "has_ipvs", "load_rules"]


def has_ipvs() -> bool:
    """Whether this kernel has IPVS now. It is not asked in a way that could make it load the module."""
    return Path("/proc/net/ip_vs").exists()


def load_rules(plan: NodePlan, run: Run) -> list[LeftOut]:
    """Load a node's rules: accounting objects, then the steps."""
    left_out = []
    for name in plan.nfacct:
        try:
            make_accounting([name])
        except OSError as error:
            left_out.append(LeftOut(plan.name, "iptables-save.txt", f"nfacct object {name}", str(error)))
    steps = list(plan.steps)
    if not has_ipvs():
        why = "this kernel has no IPVS, and no guest kernel can be started (install user-mode-linux)"
        left_out += [LeftOut(plan.name, "ipvs-save.txt", step.says, why) for step in steps if _is_ipvs(step.argv)]
        steps = [step for step in steps if not _is_ipvs(step.argv)]
    return [*left_out, *run_steps(steps, run, plan.name)]


def _is_ipvs(argv: tuple[str, ...]) -> bool:
    return "ipvsadm" in argv[0]
