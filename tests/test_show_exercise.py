"""Exercises: lenient comparison, feedback, and the lessons' answers on the bundled recording."""

from __future__ import annotations

from fractions import Fraction

import pandas as pd
import pytest

import k8snet_nb as kn
from k8snet_nb.errors import NotFound
from k8snet_nb.show import Exercise, exercise
from k8snet_nb.show.answers import Answer, address, command, names, number, text
from k8snet_nb.show.exercises import EXERCISES
from k8snet_nb.show.live import WIDGET_VIEW
from k8snet_nb.show.question import NotHere, Question

NODES = names(["node-one"])
PODS = names(["a/one", "a/two", "b/two"])
WIDE = command("kubectl get pods -A", [{"kubectl"}, {"get"}, {"pods", "po"}], [{"-A", "--all-namespaces"}, {"-o=wide"}])


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (text("RESTARTS"), '  "restarts". '),
        (number(4), 4),
        (number(4), " 4 "),
        (number(4), 4.0),
        (number(Fraction(1, 4)), "1/4"),
        (number(Fraction(1, 4)), "25 %"),
        (number(Fraction(1, 4)), 0.25),
        (number(Fraction(1, 3)), "0.33"),
        (number(Fraction(1, 3)), "33.3%"),
        (number(Fraction(1, 3)), 1 / 3),
        (number(Fraction(1, 3)), Fraction(1, 3)),
        (address("10.32.0.10"), "10.32.0.10/32"),
        (address("10.32.0.10"), "::ffff:10.32.0.10"),
        (address("fd00::1"), "[FD00:0:0:0:0:0:0:0001]"),
        (NODES, "Node-One"),
        (NODES, ["node-one"]),
        (PODS, "b/two, one and a/two"),
        (PODS, ("a/two", "b/two", "a/one", "a/one")),
        (names([]), "none"),
        (WIDE, "kubectl get -o wide pods --all-namespaces"),
        (WIDE, "$ kubectl  get po -owide -A"),
    ],
)
def test_what_is_meant_counts(answer: Answer, given: object) -> None:
    assert answer.judge(given) is None


@pytest.mark.parametrize(
    ("answer", "given", "why"),
    [
        (text("RESTARTS"), "AGE", "not it"),
        (number(4), "four", "number"),
        (number(4), "5", "not the number"),
        (number(4), "1/0", "number"),
        (number(Fraction(1, 3)), "0.3", "not the number"),
        (number(Fraction(1, 3)), "0.35", "not the number"),
        (number(1), True, "number"),
        (address("10.32.0.10"), "10.32.0.1", "another address"),
        (address("10.32.0.10"), "dns", "IP address"),
        (NODES, "none", "none does not belong"),
        (PODS, "a/one", "1 of 3"),
        (PODS, "a/one two b/two", "two does not belong"),
        (PODS, "", "asks for"),
        (PODS, [], "asks for"),
        (names([]), "a", "a does not belong"),
        (WIDE, "kubectl get pods \u2014all-namespaces -o wide", "U+2014"),
        (WIDE, "kubectl get pods -A", "1 option is missing"),
        (WIDE, "kubectl get pods -A -o wide -w", "-w is not"),
        (WIDE, "kubectl get nodes -A -o wide", "Begin with kubectl get"),
        (WIDE, "kubectl get 'pods", "quote"),
    ],
)
def test_what_is_wrong_is_told(answer: Answer, given: object, why: str) -> None:
    assert why in str(answer.judge(given))


ENTRY = Question(
    number="99-1",
    ask=lambda cluster: f"How many pods does `{cluster.name}` have?",
    answer=lambda cluster: number(len(cluster.pods())),
    why="Count the <rows>.",
    hints=("First `hint`.", "Second."),
    slips=lambda _cluster: ((number(3), "3 are the namespaces."),),
)


class FakeCluster:
    name = "<b>fake</b>"

    def pods(self) -> pd.DataFrame:
        return pd.DataFrame({"name": ["a", "b"]})


def make(entry: Question = ENTRY) -> Exercise:
    return Exercise(entry, FakeCluster())  # type: ignore[arg-type]


def test_feedback_from_a_cell_is_stable() -> None:
    one = make()
    assert repr(one.check(2)) == repr(make().check("2")) == "Right: Count the <rows>."
    assert repr(one.check("3")) == "Not yet: 3 are the namespaces."
    assert repr(one.check(" ")) == "Not yet: Write an answer first."
    assert repr(one.solution()) == "Answer: 2\nCount the <rows>."
    assert "<rows>" not in one.check(2)._repr_mimebundle_()["text/html"]
    assert one.hint() == one.hint(0) == "First `hint`."
    assert one.hint(2) == one.hint(9) == "Second."


def test_the_widget_judges_and_hints_in_its_pane() -> None:
    one = make()
    one.field.value = "5"  # what Enter sends
    assert "Not yet:</strong> That is not the number." in one.feedback.value
    one.field.value = "2"
    assert "Right:</strong> Count the &lt;rows&gt;." in one.feedback.value
    assert 'role="status" aria-live="polite"' in one.feedback.value
    one.hint_button.click()
    assert "Hint 1 of 2:</strong> First <code>hint</code>." in one.feedback.value
    one.hint_button.click()
    one.hint_button.click()
    assert "Hint 2 of 2" in one.feedback.value
    one.check_button.click()
    assert "Right" in one.feedback.value


def test_an_exercise_shows_canonically_and_escaped() -> None:
    shown = make()._repr_mimebundle_()
    assert shown["text/plain"] == "Exercise 99-1. How many pods does <b>fake</b> have?"
    assert "<code>&lt;b&gt;fake&lt;/b&gt;</code>" in shown["text/html"]
    assert WIDGET_VIEW in shown
    assert "2" not in shown["text/html"]  # the answer is not given away


def test_a_case_that_the_cluster_does_not_have_is_said_so() -> None:
    def absent(_cluster: object) -> Answer:
        raise NotHere("no Service is headless")

    one = make(Question(number="99-2", ask="Which?", answer=absent, why=""))
    assert repr(one.check("x")) == "Not here: no Service is headless."
    assert repr(one.solution()) == "Not here: no Service is headless."
    assert one.check("x").right is None
    assert "no case for this exercise: no Service is headless" in one.question
    assert one.field.disabled
    assert one.hint() == "There is no hint for this one."


def test_an_error_while_checking_shows_in_the_pane() -> None:
    one = make(Question(number="99-3", ask="?", answer=lambda _c: number(1), why=lambda _c: str(1 / 0)))
    one.field.value = "1"
    assert "ZeroDivisionError" in one.feedback.value


@pytest.fixture(scope="module")
def cluster() -> kn.Cluster:
    return kn.open()


RECORDED = {
    "00-1": ("default/client", "node-watch-74fwx and node-watch-qp8zd"),
    "00-2": ("node-two", "node-one"),
    "00-3": ("172.30.0.11", "10.244.18.5"),
    "01-1": ("kubectl get pods —all-namespaces –o wide", "kubectl get pods -A -o wide"),
    "01-2": ("default/client", "kube-system/node-watch-8zf8j"),
    "01-3": ("age", "Restarts"),
    "02-1": ("6", "7"),
    "02-2": ("hello-world", "orphan"),
    "02-3": ("example-external", "hello-headless"),
    "02-4": ("kubectl get service –all-namespaces", "kubectl get service --all-namespaces"),
    "03-1": ("docker ps", "crictl pods"),
    "03-2": ("685 798 14552", "685, 798 and 4148"),
    "03-3": ("nsenter –t 685 –n ip addr", "nsenter -t 798 -n ip a"),
    "03-4": ("net", "the mount namespace"),
    "04-1": ("veth5255f3bf", "veth498ebe08"),
    "04-2": ("veth5255f3bf", "eth0"),
    "04-3": ("11", "6"),
    "04-4": ("default/client-two", "client"),
    "05-1": ("default/hello-world-c648f6bd8-96wh2", "hello-world-c648f6bd8-s8cwf"),
    "05-2": ("conntrack –L –d 10.32.62.13", "conntrack -L -d 10.32.62.13"),
    "05-3": ("0", "69"),
    "05-4": ("682", "375"),
    "05-5": ("net.ipv4.netfilter.ip_conntrack_max", "net.netfilter.nf_conntrack_max"),
    "06-1": ("1/3", "25%"),
    "06-2": ("default/hello-internal-local", "orphan"),
    "06-3": ("iptables -t nat -L KUBE-SERVICE", "iptables -t nat -L KUBE-SERVICES -n"),
    "06-4": ("node-one, node-two", "node-one"),
    "07-1": ("4", "8"),
    "07-2": ("cart", "cart.shop"),
    "07-3": ("10.30.0.10", "10.32.0.10"),
    "07-4": ("search, options", "nameserver, search and options"),
    "08-1": ("0", "3"),
    "08-2": ("ipvsadm -Ln -t 10.32.0.10:53", "ipvsadm -Ln -u 10.32.0.10:53"),
    "08-3": ("vec0", "kube-ipvs0"),
    "08-4": ("0", "4"),
    "09-1": ("1", "14"),
    "09-2": ("node-one", "node-two, node-three"),
    "09-3": ("node-one", "node-two, node-three"),
    "09-4": ("1.11", "1.35"),
    "10-1": ("node-two", "node-one"),
    "10-2": ("default/hello-world", "default/orphan"),
    "10-3": ("13", "4"),
    "10-4": ("SERVICE_LOCAL_NONE", "SERVICE_NONE_READY"),
    "11-1": ("10.244.3.3", "10.244.18.5"),
    "11-2": ("node-three", "node-one"),
    "11-3": ("172.30.0.12", "172.30.0.13"),
    "11-4": ("13", "11"),
}
"""A wrong and the right answer on the bundled recording, read off the recording by hand."""


@pytest.mark.parametrize("number", EXERCISES)
def test_the_lessons_exercises_on_the_bundled_recording(number: str, cluster: kn.Cluster) -> None:
    wrong, right = RECORDED[number]
    one = exercise(number, cluster)
    assert one.check(wrong).right is False
    assert one.check(right).right is True
    assert one.check(one.solution().answer).right is True
    assert one.hint()
    assert repr(exercise(number, cluster).solution()) == repr(one.solution())
    assert "`" not in repr(one.solution())


@pytest.mark.parametrize(
    ("number", "given", "why"),
    [
        ("00-1", "node-watch-74fwx node-watch-8zf8j node-watch-qp8zd", "node-watch-8zf8j asks for its"),
        ("00-3", "172.30.0.11", "masqueraded"),
        ("02-1", 6, "no cluster IP, yet DNS"),
        ("02-3", "example-external, hello-headless", "CNAME"),
        ("03-1", "crictl ps", "lists containers"),
        ("03-3", "nsenter –t 685 –n ip addr", "U+2013"),
        ("04-1", "veth2307ea80", "its namespace id is 2: another pod's"),
        ("06-1", "1/3", "share of those packets that come to this rung"),
        ("06-3", "iptables –t nat -L KUBE-SERVICES", "U+2013"),
        ("07-1", 4, "asked for twice"),
        ("07-2", "cart.shop.svc.cluster.local", "not the shortest"),
        ("07-3", "10.30.0.10", "the tutorial has typed"),
        ("07-4", "search options", "behind the @"),
        ("08-1", 2, "may not use them here"),
        ("08-4", 0, "IPVS does not leave such a client alone"),
        ("09-1", 13, "One rule comes before that chain"),
        ("10-2", "example-external hello-headless", "Those have no cluster IP"),
        ("10-3", 3, "judged, and no trouble"),
        ("10-3", 7, "info is not among them"),
        ("10-4", "SERVICE_NO_ENDPOINTS", "no endpoint at all"),
        ("11-1", "10.32.62.13", "never was a source"),
        ("11-1", "172.30.0.11", "a rule that masquerades"),
        ("11-2", "node-two", "leaves as the pod's own"),
        ("11-3", "10.32.62.13", "does not leave the node like that"),
        ("11-4", 5, "which still forwards"),
        ("11-4", 9, "thrown away after that"),
    ],
)
def test_likely_slips_are_explained(number: str, given: object, why: str, cluster: kn.Cluster) -> None:
    assert why in repr(exercise(number, cluster).check(given))


def test_an_unknown_exercise_lists_what_there_is(cluster: kn.Cluster) -> None:
    with pytest.raises(NotFound, match=r"no exercise 77-7: there are 00-1, .*04-4"):
        exercise("77-7", cluster)
