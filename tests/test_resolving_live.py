"""Names asked now: from the façade through an agent, out of a pod's own namespace, at real servers of this kernel."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator

import pytest
from dns_place import LIAR, SERVER, SILENT, WITHIN, Place, dns_place
from needs import need

from k8snet_nb.errors import AgentError, Refused
from k8snet_nb.parse.dns import compose

pytestmark = [
    need(root=True, commands=["ip", "bash", "dnsmasq", "unshare", "mount"], kernel=["veth", "bridge"]),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with dns_place(tmp_path_factory.mktemp("dns")) as made:
        yield made


def test_an_answer_comes_from_inside_the_pod(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("hello")
    assert (found.outcome, found.rcode, found.addresses, found.server) == ("found", "NOERROR", ("10.9.0.1",), SERVER)
    assert [str(each.query) for each in found.queries] == ["hello.default.svc.test. A", "hello.default.svc.test. AAAA"]
    assert found.records[0].ttl == 0
    assert 0 < found.ms < 2000
    assert "Not joined to the cluster" in found.says[0]
    assert place.cluster.pod("default/asker").resolv_conf().conf.nameservers == (SERVER,)


def test_the_question_leaves_from_the_pods_own_namespace(place: Place) -> None:
    place.write(WITHIN)
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.rcode, found.server) == ("failed", "REFUSED", WITHIN)


def test_no_such_name(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("nope.svc.test.")
    assert (found.outcome, found.rcode, found.eai) == ("no such name", "NXDOMAIN", "EAI_NONAME")


def test_truncated_answers_are_asked_for_by_tcp(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("many", types="A")
    assert len(found.addresses) == 60
    assert found.queries[0].reply.transport == "tcp"
    assert "truncated over UDP" in found.queries[0].reply.notes[0]


def test_silence_ends_in_time_and_names_the_servers(place: Place) -> None:
    place.write(SILENT, LIAR)
    begin = time.monotonic()
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.rcode, found.addresses) == ("no answer", None, ())
    assert [each.server for each in found.queries] == [SILENT, LIAR]
    assert time.monotonic() - begin < 8
    assert SILENT in found.report().text()
    assert f"with another id ({LIAR} port 53)" in found.report().text()


def test_a_silent_server_before_one_that_answers(place: Place) -> None:
    place.write(SILENT, SERVER)
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.server) == ("found", SERVER)


def test_all_questions_together_have_a_limit(place: Place) -> None:
    place.write(SILENT)
    begin = time.monotonic()
    found = place.cluster.pod("default/asker").resolve("hello", seconds=1.2)
    assert found.outcome == "no answer"
    assert time.monotonic() - begin < 4
    assert "used up" in found.queries[-1].result


def test_nothing_is_sent_for_what_is_no_question(place: Place) -> None:
    place.write(SERVER)
    pod = place.cluster.pod("default/asker")
    with pytest.raises(Refused, match="no DNS record type"):
        pod.resolve("hello", types="NO-SUCH-TYPE")
    with pytest.raises(Refused, match="glibc or musl"):
        pod.resolve("hello", libc="uclibc")
    assert pod.resolve("a" * 64).outcome == "cannot be asked"


def test_the_agent_refuses_what_is_no_exchange(place: Place) -> None:
    for request in ({"server": "a.test", "wire": "AAAA"}, {"server": SERVER}, {"server": SERVER, "wire": "!"}):
        with pytest.raises(AgentError, match="could not ask"):
            place.source.exchange("default/asker", request)
    assert place.cluster.pod("default/asker").resolve("hello").outcome == "found"


def test_a_question_in_the_air_does_not_keep_the_agent(place: Place) -> None:
    place.write(SILENT)
    agent = place.source._agent
    request = {"server": SILENT, "wire": base64.b64encode(compose("a.test.", "A", 1)).decode(), "timeout": 3}
    waiting = threading.Thread(target=place.source.exchange, args=("default/asker", request))
    begin = time.monotonic()
    waiting.start()
    assert agent.hello(5)
    assert time.monotonic() - begin < 2.5
    waiting.join(10)
    assert not waiting.is_alive()
