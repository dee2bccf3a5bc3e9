"""What tests of translation compare."""

from __future__ import annotations

from fractions import Fraction

from k8snet_nb.explain.translation import Translation

ONE, TWO, THREE = "node-one", "node-two", "node-three"
MODES = {ONE: "iptables", TWO: "nftables", THREE: "ipvs"}


def shares(answer: Translation) -> dict[str, Fraction | None]:
    return {f"{b.address}:{b.port}": b.probability for b in answer.backends}
