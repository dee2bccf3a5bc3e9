"""The lessons' commands in a pod's network namespace, answered from recorded facts as the tools would print them.

A recording cannot run anything. What it can answer is rendered from its facts, labelled so, and the rest is refused
with the list of what is possible. On a live source the same commands really run (nsenter's job).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FactBroken, FactMissing, Refused
from ..facts import FACTS, FactRef
from ..render import Report, Shown, printable
from . import ip_text
from .socket_text import OPTIONS, socket_text

__all__ = ["ANSWERED", "CommandOutput", "rendered_command"]

ANSWERED = (
    "ip [-4|-6] [-br] addr [show [dev NAME]]",
    "ip [-br] link [show [dev NAME]]",
    "ip [-4|-6] route [show [table NAME|all] [dev NAME]]",
    "ip [-4|-6] neigh [show [dev NAME]]",
    "ip rule [show]",
    "ss -tunap (and any of -t -u -a -l -p -4 -6 together with -n)",
    "cat /etc/resolv.conf",
    *(fact.command for fact in FACTS.values() if fact.pod and fact.file.endswith(".json") and fact.file != "pod.json"),
)
"""What can be answered on a recording."""

_WHOSE_FILE = " It is the file that the pod's processes see; entering the network namespace alone shows the node's."

Read = Callable[[str], bytes]
_OBJECTS = ("address", "link", "route", "neighbour", "neighbor", "rule")


@dataclass(frozen=True, slots=True)
class CommandOutput(Shown):
    """What a command wrote, apart from its errors; where it ran; ``rendered``: from facts, nothing was run.

    ``status``: its exit status, minus the number of the signal that ended it, None when rendered. ``ended``: "" or
    ``timed_out``, ``cancelled``, ``too_much``.
    """

    argv: tuple[str, ...]
    stdout: str
    stderr: str = ""
    status: int | None = None
    place: str = ""
    rendered: bool = False
    ended: str = ""
    note: str = ""

    def report(self) -> Report:
        """The prompt with the place, the output as it would stand in a terminal, and how it came about."""
        lines = [f"[{self.place}]$ {' '.join(self.argv)}", self.stdout.rstrip("\n"), self.stderr.rstrip("\n")]
        notes = [self.note] if self.note else []
        if self.ended or self.status:
            notes.append(f"({self.ended.replace('_', ' ')}; exit status {self.status})".replace("(; ", "("))
        return Report("", notes=tuple(notes), block="\n".join(line for line in lines if line))


def rendered_command(argv: Sequence[str], read: Read, ref: FactRef) -> CommandOutput:
    """The output of a command, from the facts that ``read`` delivers by name; ``ref`` says of which pod.

    Raises Refused with the list of what can be answered; FactMissing and FactBroken of the facts that it needs.
    """
    words = tuple(argv)
    exact = {tuple(fact.command.split()): fact.file for fact in FACTS.values() if fact.pod}
    if words == ("cat", "/etc/resolv.conf"):
        return _output(words, read("resolv.conf").decode("utf-8", "replace"), "resolv.conf", ref, _WHOSE_FILE)
    if words in exact and words[0] == "ip":
        return _output(words, read(exact[words]).decode("utf-8", "replace"), exact[words], ref)
    if words[:1] == ("ss",):
        return _sockets(words, read, ref)
    if words[:1] == ("ip",):
        return _ip(words, read, ref)
    raise _refused(words, ref)


def _refused(words: Sequence[str], ref: FactRef) -> Refused:
    return Refused(
        f"a recording cannot run {printable(' '.join(words))!r} in {ref.where}; from its facts it can answer: "
        + "; ".join(ANSWERED)
    )


def _output(words: tuple[str, ...], text: str, fact: str, ref: FactRef, more: str = "") -> CommandOutput:
    place = FactRef("addr.json", ref.node, ref.pod).place
    note = f"Rendered from the recorded fact {fact}; nothing was run.{more}"
    return CommandOutput(words, text, place=place, rendered=True, note=note)


def _sockets(words: tuple[str, ...], read: Read, ref: FactRef) -> CommandOutput:
    if not all(word.startswith("-") and len(word) > 1 and set(word[1:]) <= OPTIONS for word in words[1:]):
        raise _refused(words, ref)
    options = set("".join(word[1:] for word in words[1:]))
    if "n" not in options or not options & {"t", "u"}:
        raise _refused(words, ref)
    text = read("sockets.txt").decode("utf-8", "replace")
    if options == set("tunap"):
        return _output(words, text, "sockets.txt", ref)
    try:
        return _output(words, socket_text(text, options), "sockets.txt", ref)
    except ValueError as error:
        raise FactBroken("sockets.txt", ref.where, str(error), "Record it again, or look at the file.") from error


def _ip(words: tuple[str, ...], read: Read, ref: FactRef) -> CommandOutput:
    family, brief, rest = None, False, list(words[1:])
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-4", "-6"):
            family = "inet" if option == "-4" else "inet6"
        elif option in ("-br", "-brief"):
            brief = True
        else:
            raise _refused(words, ref)
    what = next((name for name in _OBJECTS if rest and rest[0] and name.startswith(rest[0])), None)
    chosen = _selection(rest[1:])
    if what is None or chosen is None or (brief and what not in ("address", "link")):
        raise _refused(words, ref)
    if chosen.get("table") and what != "route":
        raise _refused(words, ref)
    try:
        lines, fact = _answer(what, family, brief, chosen, read)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"an entry lacks what {what} prints ({type(error).__name__}: {error})"
        raise FactBroken("addr.json" if what in ("address", "link") else f"{what}.json", ref.where, why) from error
    more = (
        " The link mode is not among its facts: DEFAULT is written for all." if (what, brief) == ("link", False) else ""
    )
    return _output(words, "".join(f"{line}\n" for line in lines), fact, ref, more)


def _selection(words: Sequence[str]) -> dict[str, str] | None:
    """What stands after the object: ``show``, ``dev NAME``, ``table NAME``; None for anything else."""
    rest = list(words)
    if rest and rest[0] and any(verb.startswith(rest[0]) for verb in ("show", "list", "lst")):
        rest.pop(0)
    chosen: dict[str, str] = {}
    while rest:
        word = rest.pop(0)
        if word in ("dev", "table") and rest and word not in chosen:
            chosen[word] = rest.pop(0)
        elif "dev" not in chosen and not word.startswith("-") and len(rest) == 0 and word not in ("up", "master"):
            chosen["dev"] = word
        else:
            return None
    return chosen


def _entries(read: Read, fact: str) -> list[dict[str, Any]]:
    data = read(fact)
    return [entry for entry in json.loads(data) if entry] if data.strip() else []


def _answer(what: str, family: str | None, brief: bool, chosen: dict[str, str], read: Read) -> tuple[list[str], str]:
    device = chosen.get("dev")
    if what in ("address", "link"):
        links = [link for link in _entries(read, "addr.json") if device in (None, link["ifname"])]
        if device is not None and not links:
            return [], f"addr.json, which has no interface {device}"
        if brief:
            return ip_text.brief_lines(links, "link" if what == "link" else "addr", family), "addr.json"
        names = _namespace_names(read)
        if what == "link":
            return ip_text.link_lines(links, names), "addr.json"
        return ip_text.address_lines(links, names, family), "addr.json"
    if what == "rule":
        return ip_text.rule_lines(_entries(read, "rule.json")), "rule.json"
    if what == "route":
        return _routes(family, chosen, read)
    found = [e for e in _entries(read, "neigh.json") if device in (None, e["dev"]) and _fits(e["dst"], family)]
    return ip_text.neigh_lines(_without_dev(found) if device else found), "neigh.json"


def _routes(family: str | None, chosen: dict[str, str], read: Read) -> tuple[list[str], str]:
    table = chosen.get("table", "main")
    fact = "route6.json" if family == "inet6" else "route.json"
    # Without -6, `ip route` lists IPv4; `table all` without a family lists both.
    wanted = family or (None if table == "all" else "inet")
    routes = [
        route
        for route in _entries(read, fact)
        if table in ("all", route.get("table", "main"))
        and (wanted is None or _family_of(route) == wanted)
        and chosen.get("dev") in (None, route.get("dev"))
    ]
    if table != "all" and "table" in chosen:
        routes = [{**route, "table": "main"} for route in routes]  # the tool does not repeat the table asked for
    if "dev" in chosen:
        routes = _without_dev(routes)
    return ip_text.route_lines(routes), fact


def _without_dev(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tool does not repeat the interface asked for."""
    return [{key: value for key, value in entry.items() if key != "dev"} for entry in entries]


def _namespace_names(read: Read) -> dict[int, str]:
    try:
        return {entry["nsid"]: str(entry["name"]) for entry in _entries(read, "nsid.json") if entry.get("name")}
    except FactMissing:
        return {}


def _fits(address: str, family: str | None) -> bool:
    version = ipaddress.ip_address(address).version
    return family is None or (version == 6) == (family == "inet6")


def _family_of(route: dict[str, Any]) -> str:
    texts = [str(route.get(key, "")) for key in ("dst", "gateway", "prefsrc")]
    return "inet6" if "pref" in route or any(":" in text for text in texts) else "inet"
