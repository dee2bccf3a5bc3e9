"""What tests of journeys look at."""

from __future__ import annotations

from typing import Any

from k8snet_nb.explain.journey.values import Journey

ONE, TWO, THREE = "node-one", "node-two", "node-three"
CLIENTS = {"iptables": "default/client", "nftables": "default/client-two", "ipvs": THREE}
HELLO, VIP = "default/hello-world", "10.32.62.13:80"


def places(journey: Journey, direction: str = "out") -> list[str]:
    return [stop.place for stop in journey.stops if stop.direction == direction]


def at(journey: Journey, place: str, direction: str = "out") -> Any:
    return next(stop for stop in journey.stops if stop.place == place and stop.direction == direction)


ACROSS = ["forwarding", "source", "leaving", "wire", "arriving", "rules", "forwarding"]
