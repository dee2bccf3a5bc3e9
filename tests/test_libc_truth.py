"""The truth test: what glibc, musl, dig and nslookup of this machine ask, beside what we say that they ask."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import dns_truth
import pytest
from dns_truth import SERVERS
from needs import need

from k8snet_nb.explain.dns.tools import dig_queries, nslookup_queries
from k8snet_nb.explain.names import Libc, Query, search_expansion
from k8snet_nb.explain.resolution import DnsAnswer, Reply, resolve
from k8snet_nb.parse.dns import Message, Record
from k8snet_nb.parse.resolv_conf import parse_resolv_conf

pytestmark = pytest.mark.slow
K8S = """search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 127.0.0.1
options ndots:5 timeout:1
"""
TWO = K8S.replace("nameserver 127.0.0.1", "nameserver 127.0.0.1\nnameserver 127.0.0.2")
FIRST = "hello.default.svc.cluster.local."
EAI = {"0": "", "-2": "EAI_NONAME", "-3": "EAI_AGAIN", "-4": "EAI_FAIL", "-5": "EAI_NODATA"}
A = [[FIRST, "A", "10.0.0.1"]]


def case(
    name: str = "hello", resolv: str = K8S, servers: dict[str, Any] | None = None, **script: Any
) -> dict[str, Any]:
    """A name, a resolv.conf, and what the servers say; ``script`` is for all servers."""
    return {"words": [name], "resolv": resolv, "scripts": servers or {"*": script}}


ONE_HALF: list[dict[str, Any]] = [
    case(**{f"{FIRST} A": A, f"{FIRST} AAAA": "SERVFAIL"}),
    case(**{f"{FIRST} A": "NOERROR", f"{FIRST} AAAA": "SERVFAIL"}),
    case(**{f"{FIRST} A": "SERVFAIL", f"{FIRST} AAAA": "NOERROR"}),
    case(**{f"{FIRST} A": "NOERROR", f"{FIRST} AAAA": [[FIRST, "AAAA", "fd00::1"]]}),
]
CASES = [
    case(),
    case("hello.", K8S),
    case("example.com", **{"example.com.": [["example.com.", "A", "192.0.2.1"]]}),
    case("a.b.c.d.e.f"),
    case("a.b.c.d.e."),
    case(
        "kubernetes.default",
        **{"kubernetes.default.svc.cluster.local. A": [["kubernetes.default.svc.cluster.local.", "A", "10.0.0.1"]]},
    ),
    case(**{FIRST: "SERVFAIL"}),
    case(**{"*": "SERVFAIL"}),
    case(**{FIRST: "NOERROR"}),
    case(**{FIRST: "REFUSED"}),
    case(**{FIRST: "FORMERR"}),
    case(**{FIRST: "NOTIMP"}),
    case(**{"hello.": "SERVFAIL"}),
    case(**{FIRST: "silent"}),
    case(**{FIRST: [[FIRST, "CNAME", "example.com."]]}),
    case(**{FIRST: "NOERROR", "hello.svc.cluster.local.": "SERVFAIL", "hello.": "SERVFAIL"}),
    *ONE_HALF,
    case("hello.x", K8S.replace("ndots:5", "ndots:1"), **{"hello.x.": "SERVFAIL"}),
    case("hello.x", K8S.replace("ndots:5", "ndots:1"), **{"hello.x.": "NOERROR"}),
    case("hello.x", K8S.replace("ndots:5", "ndots:1"), **{"hello.x.": "silent"}),
    case(resolv=K8S.replace("ndots:5", "ndots:0")),
    case(resolv=K8S.replace("ndots:5", "ndots:5 single-request")),
    case(resolv=K8S.replace("127.0.0.1", "127.0.0.9")),
    case("a..b"),
    case("10.1"),
    case("x" * 60 + "." + "y" * 60 + "." + "z" * 60 + "." + "w" * 50),
    case("x" * 70),
    case("nameless", "nameserver 127.0.0.1\n"),
    case(resolv="nameserver 127.0.0.1\ndomain one.test\n"),
]
GLIBC_ONLY = [
    case(resolv=TWO, servers={"127.0.0.1": {"*": "SERVFAIL"}, "127.0.0.2": {}}),
    case(resolv=TWO, servers={"*": {"*": "REFUSED"}}),
    case(resolv=TWO, servers={"127.0.0.1": {FIRST: "silent"}, "127.0.0.2": {}}),
    case(resolv=TWO.replace("timeout:1", "timeout:1 attempts:3"), servers={"*": {FIRST: "SERVFAIL"}}),
    case(resolv=K8S.replace("ndots:5", "ndots:5 no-aaaa")),
    case(resolv=K8S.replace("ndots:5", "ndots:5 no-tld-query")),
    case(resolv=K8S.replace("search", "search .")),
    case("."),
]


class Scripted:
    """The same scripts that the servers of the truth test answer by."""

    repeats = True

    def __init__(self, scripts: dict[str, dict[str, Any]]) -> None:
        self.scripts = scripts

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        """What the scripted server says."""
        if server not in SERVERS:
            return Reply("unreachable")
        script = self.scripts.get(server, self.scripts.get("*", {}))
        entry = script.get(f"{query.name} {query.type}", script.get(query.name, script.get("*", "NXDOMAIN")))
        if entry == "silent":
            return Reply("silent")
        records = () if isinstance(entry, str) else tuple(Record(n, t, 30, x) for n, t, x in entry)
        rcode = entry if isinstance(entry, str) else "NOERROR"
        return Reply("answered", Message(1, rcode, ("qr", "ra"), (query.name, query.type), records, (), (), 50))


def ours(of: dict[str, Any], libc: Libc) -> tuple[list[list[str]], DnsAnswer]:
    """Our questions, server by server as they are sent, and our answer."""
    found = resolve(of["words"][0], parse_resolv_conf(of["resolv"]), Scripted(of["scripts"]), libc=libc)
    sent = [[at.server, at.query.name, at.query.type] for at in found.queries if at.reply.status != "unreachable"]
    return sent, found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("programs")
    return {
        "glibc": dns_truth.compile_c(folder, "glibc", dns_truth.GETADDRINFO, ["gcc"], []),
        "resinit": dns_truth.compile_c(folder, "resinit", dns_truth.RESINIT, ["gcc"], ["-lresolv"]),
    }


@need(root=True, commands=["unshare", "ip", "gcc"])
def test_glibc_asks_what_we_say(programs: dict[str, str]) -> None:
    cases = [*CASES, *GLIBC_ONLY]
    results = dns_truth.run_cases({"kind": "resolve", "program": programs["glibc"], "cases": cases})
    for of, real in zip(cases, results, strict=True):
        sent, found = ours(of, "glibc")
        assert sent == real["log"], of
        assert found.eai == EAI[real["out"].strip()] or (found.eai, real["out"].strip()) == ("EAI_NONAME", "-5"), of


@need(root=True, commands=["unshare", "ip", "musl-gcc"])
def test_musl_asks_what_we_say(tmp_path: Path) -> None:
    program = dns_truth.compile_c(tmp_path, "musl", dns_truth.GETADDRINFO, ["musl-gcc", "-static"], [])
    cases = [*CASES, case(resolv=TWO)]
    results = dns_truth.run_cases({"kind": "resolve", "program": program, "cases": cases})
    for of, real in zip(cases, results, strict=True):
        sent, found = ours(of, "musl")
        for server in SERVERS:  # it asks all at once: only the order at one server is certain
            assert [q for q in sent if q[0] == server] == [q for q in real["log"] if q[0] == server], of
        allowed = {found.eai, "EAI_NONAME"} if found.eai == "EAI_NODATA" else {found.eai}
        assert EAI[real["out"].strip()] in allowed, of


def random_case(dice: random.Random) -> dict[str, Any]:
    """A case that nobody thought of; quick ones only (no silence)."""
    labels = ["a", "hello", "kube-dns", "x" * 63, "UPPER", "_http", "1"]
    name = ".".join(dice.choice(labels) for _ in range(dice.randint(1, 5))) + dice.choice(["", "", "", "."])
    domains = [
        dice.choice(["one.test", "two.test", "a.b.c", "svc.cluster.local", "deep." * 9 + "test", "dot.test."])
        for _ in range(dice.randint(0, 4))
    ]
    chosen = [f"ndots:{dice.randint(0, 17)}", f"attempts:{dice.randint(1, 3)}", "edns0", "trust-ad"]
    options = " ".join(["timeout:1", *dice.sample(chosen, dice.randint(0, 4))])
    if dice.random() < 0.06:  # rare: it waits a second for each failure
        options += " single-request"
    servers = dice.sample(SERVERS, dice.randint(1, 3))
    lines = [*(f"nameserver {server}" for server in servers), f"options {options}"]
    lines += [f"search {' '.join(domains)}"] * bool(domains)
    dice.shuffle(lines)
    resolv = "\n".join(lines) + "\n"
    asked = [query.name.lower() for query in search_expansion(name, parse_resolv_conf(resolv))]
    entry = ["NXDOMAIN", "NOERROR", "SERVFAIL", "REFUSED", "FORMERR"]
    script: dict[str, Any] = {at: dice.choice([*entry, [[at, "A", "10.0.0.1"]]]) for at in asked if dice.random() < 0.5}
    return {"words": [name], "resolv": resolv, "scripts": {"*": script}}


class Lower(Scripted):
    """Names are compared without case."""

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        return super().ask(server, Query(query.name.lower(), query.type))


@need(root=True, commands=["unshare", "ip", "gcc"])
@pytest.mark.parametrize("seed", range(2))
def test_glibc_on_random_cases(programs: dict[str, str], seed: int) -> None:
    dice = random.Random(seed)
    cases = [random_case(dice) for _ in range(150)]
    results = dns_truth.run_cases({"kind": "resolve", "program": programs["glibc"], "cases": cases})
    for of, real in zip(cases, results, strict=True):
        found = resolve(of["words"][0], parse_resolv_conf(of["resolv"]), Lower(of["scripts"]))
        assert [[at.server, at.query.name, at.query.type] for at in found.queries] == real["log"], of
        assert found.eai == EAI[real["out"].strip()], of


def random_file(dice: random.Random) -> str:
    """Something that looks like a resolv.conf, more or less."""
    words = ["1.1.1.1", "10.1", "fd00::1", "fe80::1%lo", "999.1.1.1", "host", "a.test", ".", "#x", "0x7f.1", "1.2.3.4x"]
    options = [
        "ndots:3",
        "ndots:99",
        "ndots:x",
        "ndots:-1",
        "ndots: 4",
        "timeout:7",
        "timeout:99",
        "attempts:4",
        "attempts:9",
    ]
    options += ["rotate", "rotated", "single-request", "single-request-reopen", "use-vc", "edns0", "nonsense", "debug"]
    lines = []
    for _ in range(dice.randint(0, 7)):
        keyword = dice.choice(
            [
                "nameserver",
                "nameserver",
                "search",
                "domain",
                "options",
                "options",
                "sortlist",
                "#",
                ";",
                "junk",
                " search",
            ]
        )
        pool = options if keyword == "options" else words
        blank = dice.choice([" ", "\t", "  "])
        lines.append(
            keyword + blank + blank.join(dice.choice(pool) for _ in range(dice.randint(0, 4))) + dice.choice(["", " "])
        )
    return "\n".join(lines) + dice.choice(["", "\n"])


@need(root=True, commands=["unshare", "ip", "gcc"])
def test_glibc_reads_resolv_conf_as_we_do(programs: dict[str, str]) -> None:
    dice = random.Random(3)
    files = [random_file(dice) for _ in range(300)]
    cases = [{"resolv": file} for file in files]
    results = dns_truth.run_cases({"kind": "read", "program": programs["resinit"], "cases": cases})
    for file, real in zip(files, results, strict=True):
        lines = [line.split(" ", 1) for line in real["out"].splitlines()]
        conf = parse_resolv_conf(file)
        ndots, timeout, attempts = (int(number) for number in dict(lines)["numbers"].split())
        assert (conf.ndots, conf.timeout, conf.attempts) == (ndots, max(timeout, 1), attempts), file
        servers = [value.partition("%")[0] for value in conf.nameservers]
        assert servers == [value for key, value in lines if key == "server"], file
        assert list(conf.search[:6]) == [value for key, value in lines if key == "search"], (
            file
        )  # the old ABI shows six
        names = ("rotate", "single-request", "single-request-reopen", "use-vc", "edns0")
        assert [str(int(name in conf.flags)) for name in names] == dict(lines)["flags"].split(), file


@need(root=True, commands=["unshare", "ip", "dig", "nslookup"])
@pytest.mark.parametrize("ndots", [1, 5])
def test_dig_and_nslookup_ask_what_we_say(ndots: int) -> None:
    resolv = K8S.replace("ndots:5", f"ndots:{ndots}")
    names = ["hello", "kubernetes.default", "example.com", "hello.", "a.b.c.d.e.f"]
    conf = parse_resolv_conf(resolv)
    for program, words, expected in (
        ("nslookup", [], nslookup_queries),
        ("dig", [], dig_queries),
        ("dig", ["+search"], lambda name, conf: dig_queries(name, conf, search=True)),
    ):
        cases = [{"words": [*words, name], "resolv": resolv} for name in names]
        results = dns_truth.run_cases({"kind": "resolve", "program": program, "cases": cases})
        for name, real in zip(names, results, strict=True):
            assert [q[1:] for q in real["log"]] == [[q.name, q.type] for q in expected(name, conf)], (program, name)
