"""A planned namespace built by tools that run inside it. What a tool refuses is left out, and listed with its words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from .links import Run, build, work_for
from .loading.nfacct import make_accounting
from .loading.run import run_steps
from .model import LeftOut, NodePlan, PodPlan, Space
from .nsids import set_nsid
from .spaces import write_sysctl

__all__ = ["build_space", "has_ipvs", "load_rules"]


def has_ipvs() -> bool:
    """Whether this kernel has IPVS now. It is not asked in a way that could make it load the module."""
    return Path("/proc/net/ip_vs").exists()


def build_space(
    node: str, space: Space, pid_of: Callable[[str], int], run: Run, pods: Iterable[PodPlan] = ()
) -> list[LeftOut]:
    """Interfaces, addresses, routes and settings of the namespace that this runs in; see :mod:`.links`."""
    work = work_for(space, pid_of, pods, node)
    return list(build(work, run, write_sysctl, lambda pod, nsid: set_nsid(pid_of(pod), nsid)))


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
        why = "this kernel has no IPVS, and no guest kernel can be started (needs user-mode-linux and /dev/net/tun)"
        left_out += [LeftOut(plan.name, "ipvs-save.txt", step.says, why) for step in steps if _is_ipvs(step.argv)]
        steps = [step for step in steps if not _is_ipvs(step.argv)]
    return [*left_out, *run_steps(steps, run, plan.name)]


def _is_ipvs(argv: tuple[str, ...]) -> bool:
    return "ipvsadm" in argv[0]
