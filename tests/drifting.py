"""Changes of the recorded cluster that its rules know nothing of, and what drift says then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from edited import Change, as_json, cluster, text

ONE, TWO, THREE = "node-one", "node-two", "node-three"
NODES = [ONE, TWO, THREE]
FACT = {ONE: "iptables-save.txt", TWO: "nft.json", THREE: "ipvs-save.txt"}


def rows(changes: dict[str, Change], node: str | None = None) -> pd.DataFrame:
    return cluster(changes).drift(node)


def said(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Code, Service, entry, missing and extra of each row."""
    return [(r.code, r.service, r.entry, r.missing, r.extra) for r in frame.itertuples()]


def service(listing: Any, name: str) -> Any:
    return next(item for item in listing["items"] if item["metadata"]["name"] == name)


def on_service(name: str, edit: Callable[[Any], object]) -> Change:
    def change(listing: Any) -> None:
        edit(service(listing, name))

    return as_json(change)


def on_nft(edit: Callable[[list[Any]], object]) -> Change:
    def change(document: Any) -> None:
        edit(document["nftables"])

    return as_json(change)


def only(node: str, keep: str) -> Change:
    """The rules of hello-world on a node, narrowed to the endpoints that begin so."""

    def iptables(lines: list[str]) -> list[str]:
        return [
            line for line in lines if not ("-A KUBE-SVC-NOIMA57" in line and "->" in line and f"-> {keep}" not in line)
        ]

    def ipvs(lines: list[str]) -> list[str]:
        return [line for line in lines if not (line.startswith("-a -t 10.32.62.13:80") and f"-r {keep}" not in line)]

    def nft(entries: list[Any]) -> None:
        body = next(
            e["rule"]
            for e in entries
            if e.get("rule", {}).get("chain", "").startswith("service-MBZD57SS") and "dnat" in e["rule"]["expr"][-1]
        )
        drawn = body["expr"][-1]["dnat"]["addr"]["map"]
        kept = [where for _, where in drawn["data"]["set"] if where["concat"][0].startswith(keep)]
        drawn["data"]["set"] = [[i, where] for i, where in enumerate(kept)]
        drawn["key"]["numgen"]["mod"] = len(kept)

    return {ONE: text(iptables), TWO: on_nft(nft), THREE: text(ipvs)}[node]


def cut(*parts: str) -> Change:
    """Without the rules that hold all of these."""
    return text(lambda lines: [line for line in lines if not all(part in line for part in parts)])
