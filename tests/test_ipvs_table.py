"""The tutorial's own table, made from what the recorded node has: its rules and its connections."""

from __future__ import annotations

from pathlib import Path

from test_ipvs_parse import RULES, TABLE

from k8snet_nb.explain.ipvs.table import listing, with_connections
from k8snet_nb.parse.ipvs import parse_rules
from k8snet_nb.parse.ipvs_listing import parse_connections, parse_table

NODE = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"
HEAD = "IPVS connection entries\npro expire state       source             virtual            destination\n"


def test_the_recorded_node() -> None:
    connections = parse_connections((NODE / "ipvs-connections.txt").read_bytes())
    counted = with_connections(parse_rules((NODE / "ipvs-save.txt").read_bytes()), connections)
    world = next(one for one in counted if one.address == "10.32.62.13")
    # six connections of the node itself, all in TIME_WAIT
    assert [(server.active, server.inactive) for server in world.servers] == [(0, 2), (0, 2), (0, 1), (0, 1)]
    text = listing(counted)
    assert "\nTCP  10.32.91.161:80 rr persistent 600\n" in text
    assert "\n  -> 10.244.3.3:8080              Masq    1      0          2         \n" in text


def test_active_inactive_and_templates() -> None:
    lines = [
        "TCP 14:58  ESTABLISHED 10.9.0.1:4000      10.0.0.1:80        10.1.0.1:8080",
        "TCP 00:58  SYN_RECV    10.9.0.1:4001      10.0.0.1:80        10.1.0.1:8080",
        "TCP 00:58  FIN_WAIT    10.9.0.1:4002      10.0.0.1:80        10.1.0.1:8080",
        "TCP 09:58  NONE        10.9.0.0:0         10.0.0.2:80        10.1.0.1:80",
        "SCTP 04:58  ESTABLISHED 10.9.0.1:4003      10.0.0.1:99        10.1.0.9:99",
    ]
    counted = with_connections(parse_rules(RULES), parse_connections(HEAD + "\n".join(lines) + "\n"))
    plain, persistent, _, _, sctp, _, mark, _ = counted
    assert (plain.servers[0].active, plain.servers[0].inactive) == (2, 1)
    assert (persistent.servers[0].active, persistent.servers[0].inactive) == (0, 0)
    assert (sctp.servers[0].active, sctp.servers[0].inactive) == (1, 0)
    assert mark.servers[0].active is None


def test_the_table_is_printed_as_it_was_read() -> None:
    assert listing(parse_table(TABLE)) == TABLE.partition("\n")[2]
