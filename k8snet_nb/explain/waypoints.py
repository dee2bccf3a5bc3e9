"""The places where a data plane finds a Service: what a drawing shows between the address and the endpoints."""

from __future__ import annotations

from .translation import Translation

__all__ = ["waypoints"]

_LOOKED_UP = (
    "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-",
    "KUBE-PROXY-FIREWALL",
)  # fmt: skip
_HOOKS = ("nat-", "filter-", "masquerading", "mark-for-masquerade")


def waypoints(answer: Translation) -> tuple[str, ...]:
    """Chains, maps or the virtual server on the way, in order, each once."""
    found: dict[str, None] = {}
    for step in answer.steps:
        words = step.place.split(" ", 2)
        if step.fact.startswith("ipvs"):
            if step.place == "ipvs virtual server":
                scheduler = f", scheduler {answer.scheduler}" if answer.scheduler else ""
                found[f"virtual server {answer.target.protocol.upper()}{scheduler}"] = None
        elif step.fact == "nft.json":
            name = words[-1]
            if not name.startswith(_HOOKS):
                found[f"map {name}" if step.text.startswith(_key(answer)) else f"chain {name}"] = None
        elif answer.mode != "ipvs" and words[-1].startswith(_LOOKED_UP):
            table = "" if words[0] == "nat" else f" ({words[0]})"
            found[f"{words[-1]}{table}"] = None
    return tuple(found)


def _key(answer: Translation) -> tuple[str, str]:
    """How nft prints the key of a Service's element in its maps."""
    target = answer.target
    return f"{target.address} . {target.protocol} . {target.port}", f"{target.protocol} . {target.port}"
