"""Recorded rules on their way into a twin."""

from __future__ import annotations

from edited import Change, Edited

from k8snet_nb.twin.loading.steps import Loaded, rule_steps


def steps(changes: dict[str, Change], node: str) -> Loaded:
    return rule_steps(Edited(changes), node)
