"""Real questions to real servers, and to servers that lie, in a network namespace of this kernel."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import dns_truth
import pytest
from needs import need

from k8snet_nb.agent.dns_exchange import MAX_IGNORED, answer, exchange
from k8snet_nb.parse.dns import parse_dns_log

CASES: dict[str, dict[str, Any]] = {
    "found": {"name": "hello", "servers": "127.0.0.1"},
    "without an agent": {"name": "hello", "servers": "127.0.0.1", "agent": False},
    "ipv6": {"name": "hello", "servers": "::1"},
    "ipv6 truncated": {"name": "many", "servers": "::1"},
    "truncated": {"name": "many", "servers": "127.0.0.1"},
    "use-vc": {"name": "hello", "servers": "127.0.0.1", "options": "use-vc"},
    "edns0": {"name": "many", "servers": "127.0.0.1", "options": "edns0"},
    "nxdomain": {"name": "nope.test.", "servers": "127.0.0.1"},
    "searched": {"name": "nope", "servers": "127.0.0.1"},
    "servfail": {"name": "x.fail.test.", "servers": "127.0.0.1"},
    "alias": {"name": "alias", "servers": "127.0.0.1"},
    "silence": {"name": "hello.test.", "servers": "127.0.2.66"},
    "second": {"name": "hello", "servers": "127.0.2.66 127.0.0.1"},
    "nobody": {"name": "hello", "servers": "127.0.2.77"},
    "wrong id": {"name": "a.test.", "servers": "127.0.2.1", "limit": 0.4},
    "wrong question": {"name": "a.test.", "servers": "127.0.2.2", "limit": 0.4},
    "wrong source": {"name": "a.test.", "servers": "127.0.2.3", "limit": 0.4},
    "short": {"name": "a.test.", "servers": "127.0.2.4", "limit": 0.4},
    "malformed": {"name": "a.test.", "servers": "127.0.2.5", "limit": 0.4},
    "lie, then truth": {"name": "a.test.", "servers": "127.0.2.6"},
    "tcp closes": {"name": "a.test.", "servers": "127.0.2.7"},
    "flood": {"name": "a.test.", "servers": "127.0.2.8", "limit": 0.4},
    "echo": {"name": "a.test.", "servers": "127.0.2.9", "limit": 0.4},
    "refused without question": {"name": "a.test.", "servers": "127.0.2.11"},
    "limit": {"name": "hello", "servers": "127.0.2.66", "options": "timeout:5 attempts:2", "limit": 1.5},
}
pytestmark = [need(root=True, commands=["unshare", "ip", "dnsmasq"]), pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """All cases in one namespace: it lives for as long as they take."""
    program = str(Path(__file__).with_name("dns_live.py"))
    results = dns_truth.run_cases({"cases": list(CASES.values())}, program=program)
    return dict(zip(CASES, results, strict=True))


def test_answers_of_a_real_server(told: dict[str, dict[str, Any]]) -> None:
    found = told["found"]
    assert (found["outcome"], found["rcode"], found["addresses"]) == ("found", "NOERROR", ["10.9.0.1"])
    assert found["server"] == "127.0.0.1"
    assert [each[0] for each in found["tries"]] == ["hello.default.svc.test. A", "hello.default.svc.test. AAAA"]
    assert told["without an agent"]["addresses"] == ["10.9.0.1"]
    assert told["ipv6"]["addresses"] == ["10.9.0.1"]
    assert len(told["ipv6 truncated"]["addresses"]) == 60
    assert told["alias"]["addresses"] == ["10.9.0.1"]
    assert (told["nxdomain"]["outcome"], told["nxdomain"]["rcode"]) == ("no such name", "NXDOMAIN")
    assert (told["servfail"]["outcome"], told["servfail"]["rcode"], told["servfail"]["eai"]) == (
        "failed",
        "SERVFAIL",
        "EAI_AGAIN",
    )
    # The last try leaves the server's own domain, and it knows nobody to ask.
    assert [each[3] for each in told["searched"]["tries"]] == ["NXDOMAIN"] * 6 + ["REFUSED"] * 2


def test_truncated_is_asked_again_by_tcp(told: dict[str, dict[str, Any]]) -> None:
    found = told["truncated"]
    assert len(found["addresses"]) == 60
    assert found["tries"][0][2] == "tcp"
    assert "truncated over UDP" in found["notes"][0][0]
    assert [json.loads(line)["transport"] for line in found["log"]] == ["udp", "tcp", "udp"]
    assert len(told["edns0"]["addresses"]) == 60
    assert {each[2] for each in told["edns0"]["tries"]} == {"udp"}
    assert {each[2] for each in told["use-vc"]["tries"]} == {"tcp"}


def test_silence_and_refusal_have_time_limits(told: dict[str, dict[str, Any]]) -> None:
    assert (told["silence"]["outcome"], told["silence"]["rcode"]) == ("no answer", None)
    assert 1.9 < told["silence"]["seconds"] < 6
    assert told["second"]["addresses"] == ["10.9.0.1"]
    assert told["second"]["server"] == "127.0.0.1"
    assert told["nobody"]["outcome"] == "unreachable"
    assert told["nobody"]["seconds"] < 1.9
    assert len(told["nobody"]["tries"]) == 2
    assert told["limit"]["seconds"] < 6
    assert "used up" in told["limit"]["tries"][-1][3]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("wrong id", "with another id (127.0.2.1 port 53)"),
        ("wrong question", "to another question (127.0.2.2 port 53)"),
        ("wrong source", "from another address (127.0.2.99 port 53)"),
        ("short", "too few"),
        ("echo", "a query, not a reply"),
    ],
)
def test_lies_are_not_taken_and_are_named(told: dict[str, dict[str, Any]], case: str, why: str) -> None:
    assert told[case]["outcome"] == "no answer"
    assert told[case]["addresses"] == []
    assert why in told[case]["notes"][0][0]
    assert why in told[case]["tries"][0][3]


def test_a_lie_does_not_keep_the_truth_away(told: dict[str, dict[str, Any]]) -> None:
    found = told["lie, then truth"]
    assert found["addresses"] == ["192.0.2.1"]
    assert "with another id" in found["notes"][0][0]


def test_unusable_replies(told: dict[str, dict[str, Any]]) -> None:
    assert told["malformed"]["outcome"] == "no answer"
    assert "not a DNS message" in told["malformed"]["tries"][0][3]
    assert "closed the connection after 1 of 2 bytes" in told["tcp closes"]["tries"][0][3]
    assert len(told["flood"]["notes"][0]) == MAX_IGNORED
    assert told["refused without question"]["rcode"] == "REFUSED"


def test_what_was_asked_can_be_recorded(told: dict[str, dict[str, Any]]) -> None:
    lines = [line for result in told.values() for line in result["log"]]
    log = parse_dns_log("\n".join(lines))
    assert log.problems == ()
    assert len(log.asks) == len(lines)


@pytest.mark.parametrize(
    ("server", "port", "wire", "transport"),
    [
        ("name.test", 53, bytes(20), "udp"),
        ("127.0.0.1", 53, bytes(20), "sctp"),
        ("127.0.0.1", 53, b"", "udp"),
        ("127.0.0.1", 70000, bytes(20), "udp"),
    ],
)
def test_bad_arguments_send_nothing(server: str, port: int, wire: bytes, transport: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        exchange(server, port, wire, transport, 0.1)


@pytest.mark.parametrize(
    "change", [{"wire": "!"}, {"wire": None}, {"server": "x"}, {"timeout": 0}, {"timeout": 1e9}, {"timeout": "x"}]
)
def test_bad_requests_send_nothing(change: dict[str, Any]) -> None:
    good = {"server": "127.0.0.1", "wire": base64.b64encode(bytes(20)).decode(), "timeout": 0.1}
    with pytest.raises(ValueError, match=r".+"):
        answer({**good, **change})
