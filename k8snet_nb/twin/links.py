"""From a Space to what the tools read: text for ``ip -batch -`` and ``bridge -batch -``, settings, namespace ids. Pure.

A namespace is built in this order: ids of the pods' namespaces, then :attr:`Work.make` (interfaces; it also puts the
pods' ends into their namespaces), the settings, and :attr:`Work.lay` (masters, addresses, up, routes, rules,
neighbours, forwarding entries). Nodes come before their pods, and a node's wire (:func:`wire_batch`) before the node.

Every line stands for something of the recording: what a tool refuses becomes a LeftOut, and the rest goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..render import printable
from .model import BRIDGE, LeftOut, Link, PodPlan, Route, Space, fallback_tunnel, own_links

__all__ = ["Batch", "Line", "Run", "Work", "build", "failures", "run_batch", "wire_batch", "work_for"]

Run = Callable[[tuple[str, ...], str], tuple[int, str]]
"""Runs a tool in the namespace: argv and standard input in, exit status and standard error out."""

_IP = ("ip", "-force", "-batch", "-")
_IP6 = ("ip", "-6", "-force", "-batch", "-")
_BRIDGE = ("bridge", "-force", "-batch", "-")
_FAILED = re.compile(r"Command failed -:(\d{1,9})\s*")
_DONE_BEFORE = ("File exists", "already assigned")
_KERNELS_OWN = ("127.0.0.1/8", "::1/128")  # loopback gets these when it is set up


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch, and the fact that it stands for.

    ``otherwise``: a line to try when this one is refused, with ``instead``, what to say of it then. ``may_exist``: that
    the thing is there already is no failure. ``optional``: nor is any refusal.
    """

    text: str
    fact: str
    otherwise: str | None = None
    instead: str = ""
    may_exist: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines for one run of a tool."""

    argv: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def stdin(self) -> str:
        """What the tool reads."""
        return "".join(f"{line.text}\n" for line in self.lines)


@dataclass(frozen=True, slots=True)
class Work:
    """All that is to be done in one namespace. ``nsids``: pod ("namespace/name") and the id that it is to have here."""

    node: str | None
    nsids: tuple[tuple[str, int], ...]
    make: Batch
    sysctls: tuple[tuple[str, str], ...]
    lay: tuple[Batch, ...]


def work_for(space: Space, pid_of: Callable[[str], int], pods: Iterable[PodPlan] = (), node: str | None = None) -> Work:
    """What builds one namespace. ``pid_of``: a process in the namespace of a pod ("namespace/name"), as seen from the
    one who runs the tools; ``pods``: those of the node, for the far ends of its pairs; ``node``: of whom it is.
    """
    far = {(pod.key, link.name): link for pod in pods for link in (pod.space.links if pod.space else ())}
    own = own_links(space.links)
    made = [line for link in space.links if (line := _make(link, pid_of, far)) is not None]
    lines = [*_settings(own), *_addresses(own), *_up(own)]
    lines += [_entry("route del", route, _route_fact(route)) for route in space.withdrawn]
    lines += [_entry("route append", route, _route_fact(route)) for route in space.routes]
    lines += [_entry("rule add", rule, "rule.json") for rule in space.rules if rule.family != 6]
    lines += [_entry("neigh add", entry, "neigh.json") for entry in space.neighbours]
    rules6 = tuple(_entry("rule add", rule, "rule.json") for rule in space.rules if rule.family == 6)
    fdb = tuple(_entry("fdb add" if "master" in e.words else "fdb append", e, "fdb.json") for e in space.fdb)
    lay = (Batch(_IP, tuple(lines)), Batch(_IP6, rules6), Batch(_BRIDGE, fdb))
    nsids = tuple((k.peer, k.nsid) for k in space.links if k.kind == "veth" and k.peer and k.nsid is not None)
    return Work(node, nsids, Batch(_IP, tuple(made)), tuple(space.sysctls.items()), tuple(b for b in lay if b.lines))


def wire_batch(link: Link, pid: int, position: int) -> Batch:
    """Run in the wire: a veth from its bridge to a node. ``link``: the node's interface of kind ``wire``; ``pid``: a
    process in the node's namespace; ``position``: counts all such interfaces, and names this end (``n0``).
    """
    here = f"n{position}"
    add = f"link add {here} mtu {link.mtu} type veth peer {_identity(link)} netns {pid}"
    lines = (
        Line(add, "addr.json"),
        Line(f"link set {here} addrgenmode none", "addr.json", optional=True),
        Line(f"link set {here} master {BRIDGE}", "addr.json"),
        Line(f"link set {here} up", "addr.json"),
    )
    return Batch(_IP, lines)


def _identity(link: Link) -> str:
    """Name, index, MAC address and MTU, as ``ip link add`` takes them for either end."""
    index = f" index {link.ifindex}" if link.ifindex is not None else ""
    mac = f" address {link.mac}" if link.mac else ""
    return f"name {link.name}{index}{mac} mtu {link.mtu}"


def _make(link: Link, pid_of: Callable[[str], int], far: dict[tuple[str, str], Link]) -> Line | None:
    """The line that makes an interface; None for one that is there already, or is made from elsewhere."""
    if link.kind in ("loopback", "wire") or (link.kind in ("veth", "macvlan", "ipvlan") and not link.peer):
        return None
    if link.kind == "veth":
        end = far.get((link.peer or "", link.peer_name or ""))
        there = _identity(end) if end is not None else f"name {link.peer_name}"
        add = f"link add {_identity(link)} type veth peer {there} netns {pid_of(link.peer or '')}"
        return Line(add, "addr.json")
    below = f" link {link.parent}" if link.parent else ""
    away = f" netns {pid_of(link.peer)}" if link.peer else ""
    options = "".join(f" {word}" for word in link.options)
    text = f"link add{below} {_identity(link)}{away} type {link.kind}{options}"
    plain = f"link add {_identity(link)} type bridge"
    if link.kind == "dummy":  # a bridge without ports holds addresses as well
        return Line(text, "addr.json", plain, "this kernel has no dummy interfaces: made as a bridge without ports")
    if link.kind == "bridge" and link.options:
        return Line(text, "addr.json", plain, "this kernel has not all of these options: made as a plain bridge")
    return Line(text, "addr.json", may_exist=fallback_tunnel(link))


def _settings(links: Sequence[Link]) -> Iterable[Line]:
    for link in links:
        if link.kind != "loopback":  # link-local addresses are made as recorded, not by the kernel
            yield Line(f"link set {link.name} addrgenmode none", "addr.json", optional=True)
        if link.kind == "loopback" or fallback_tunnel(link):
            yield Line(f"link set {link.name} mtu {link.mtu}", "addr.json")
        if link.master:
            yield Line(f"link set {link.name} master {link.master}", "addr.json")
        if link.hairpin and link.master:
            yield Line(f"link set {link.name} type bridge_slave hairpin on", "addr.json")


def _addresses(links: Sequence[Link]) -> Iterable[Line]:
    for link in links:
        if link.kind == "loopback" and link.up:
            yield Line(f"link set {link.name} up", "addr.json")
        for text in link.addresses:
            if link.kind == "loopback" and text in _KERNELS_OWN:
                continue
            nodad = " nodad" if ":" in text.split()[0] else ""
            yield Line(f"addr add {text} dev {link.name}{nodad}", "addr.json")


def _up(links: Sequence[Link]) -> Iterable[Line]:
    return (Line(f"link set {link.name} up", "addr.json") for link in links if link.up and link.kind != "loopback")


def _entry(verb: str, entry: Route, fact: str) -> Line:
    return Line(" ".join((verb, *entry.words)), fact)


def _route_fact(route: Route) -> str:
    return "route6.json" if route.family == 6 else "route.json"


def failures(batch: Batch, errors: str) -> tuple[dict[int, str], bool]:
    """What the tool wrote of which line (index from 0), and whether it stopped before the end.

    With ``-force`` it says "Command failed -:LINE" after its message and goes on. But a word that it cannot read ends
    it at once, without a number: then messages are left over.
    """
    found: dict[int, str] = {}
    rest = 0
    for match in _FAILED.finditer(errors):
        number = int(match[1]) - 1
        if 0 <= number < len(batch.lines):
            found[number] = " ".join(errors[rest : match.start()].split()) or "refused"
        rest = match.end()
    return found, bool(errors[rest:].strip())


def run_batch(batch: Batch, run: Run, node: str | None) -> tuple[LeftOut, ...]:
    """Run it, try what else there is for refused lines, and say what is left out."""
    if not batch.lines:
        return ()
    status, errors = run(batch.argv, batch.stdin)
    if status == 0:
        return ()
    found, stopped = failures(batch, errors)
    if stopped or not found:
        return _one_by_one(batch, run, node)
    return tuple(left for at, why in sorted(found.items()) for left in _refused(batch, batch.lines[at], why, run, node))


def _one_by_one(batch: Batch, run: Run, node: str | None) -> tuple[LeftOut, ...]:
    """A tool that stopped somewhere did not say where: each line on its own, and what is done is done."""
    left: list[LeftOut] = []
    for line in batch.lines:
        status, errors = run(batch.argv, f"{line.text}\n")
        if status:
            why = _FAILED.sub("", errors).strip()
            left += _refused(batch, replace(line, may_exist=True), why, run, node)
    return tuple(left)


def _refused(batch: Batch, line: Line, why: str, run: Run, node: str | None) -> tuple[LeftOut, ...]:
    if line.optional or (line.may_exist and any(said in why for said in _DONE_BEFORE)):
        return ()
    text, reason = printable(line.text)[:200], printable(" ".join(why.split()))[:200]
    if line.otherwise is not None and run(batch.argv, f"{line.otherwise}\n")[0] == 0:
        return (LeftOut(node, line.fact, text, line.instead),)
    return (LeftOut(node, line.fact, text, f"{batch.argv[0]}: {reason or 'refused'}"),)


def build(
    work: Work, run: Run, write: Callable[[str, str], None], identify: Callable[[str, int], None]
) -> tuple[LeftOut, ...]:
    """Do all of it, in order. ``write`` sets one value below /proc/sys, ``identify`` gives a pod's namespace its id;
    both raise OSError for what cannot be done.
    """
    left: list[LeftOut] = []
    for pod, nsid in work.nsids:
        try:
            identify(pod, nsid)
        except OSError as error:
            left.append(LeftOut(work.node, "nsid.json", f"{pod} {nsid}", str(error.strerror or error)))
    left += run_batch(work.make, run, work.node)
    for path, value in work.sysctls:
        try:
            write(path, value)
        except OSError as error:
            left.append(LeftOut(work.node, "sysctl.txt", f"{path} = {value}", str(error.strerror or error)))
    for batch in work.lay:
        left += run_batch(batch, run, work.node)
    return tuple(left)
