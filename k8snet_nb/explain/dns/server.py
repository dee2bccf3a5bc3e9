"""What a Corefile does, in words: for which names, from where the answers come, how long they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...facts import Evidence, FactRef
from ...parse.corefile import Corefile, Directive, ServerBlock
from ...render import Report, Shown
from .policy import LINK_LOCAL

__all__ = ["CorefileExplained", "Line", "explain_corefile"]


@dataclass(frozen=True, slots=True)
class Line:
    """One plugin of one server block in words. ``says`` is empty for a plugin that is not known here."""

    zones: tuple[str, ...]
    plugin: str
    says: str
    line: int


@dataclass(frozen=True, slots=True)
class CorefileExplained(Shown):
    """A Corefile in words. ``cluster_zones`` are served from the API, ``ttl`` in seconds (None: no such plugin).

    ``upstream`` maps a zone to where its questions go; ``stub_domains`` are those zones that are not every name.
    ``node_local``: whether this is a NodeLocal DNSCache. ``outside`` says what becomes of other names.
    """

    cluster_zones: tuple[str, ...]
    ttl: int | None
    cache: str
    upstream: dict[str, tuple[str, ...]]
    stub_domains: tuple[str, ...]
    node_local: bool
    outside: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """One row a plugin."""
        rows = tuple(
            (",".join(line.zones), line.plugin, line.says or "not explained here", line.line) for line in self.lines
        )
        return Report("", ("NAMES", "PLUGIN", "WHAT IT DOES", "LINE"), rows, (self.outside, *self.notes), self.evidence)


def _kubernetes(d: Directive) -> str:
    zones = ", ".join(d.args) or "the block's zones"
    ttl = next((o.args[0] for o in d.options("ttl") if o.args), "5")
    pods = next((o.args[0] for o in d.options("pods") if o.args), "disabled")
    words = {
        "disabled": "no names for pods",
        "insecure": "a name for any address as a pod's, without looking whether there is such a pod",
        "verified": "names for pods that exist",
    }
    passed = d.options("fallthrough")
    rest = f"; what is not found goes on for {', '.join(passed[0].args) or 'every zone'}" if passed else ""
    return f"answers {zones} from the Kubernetes API, with a TTL of {ttl} s; {words.get(pods, pods)}{rest}"


def _forward(d: Directive) -> str:
    if len(d.args) < 2:
        return "incomplete: a zone and where to"
    where = ["the servers of the file " + to if to.startswith("/") else to for to in d.args[1:]]
    tcp = ", always by TCP" if d.options("force_tcp") else ""
    name = "every other name" if d.args[0] == "." else d.args[0]
    return f"asks {' or '.join(where)} for {name}{tcp}"


def _cache(d: Directive) -> str:
    ttl = next((arg for arg in d.args if arg.isdecimal()), "3600")
    parts = [f"keeps answers for up to {ttl} s"]
    for option in d.block:
        if option.name in ("success", "denial") and option.args:
            kept = f", up to {option.args[1]} s" if len(option.args) > 1 else ""
            parts.append(f"{option.name}: {option.args[0]} entries{kept}")
        elif option.name == "disable":
            parts.append(f"not {' '.join(option.args)}")
        elif option.name == "serve_stale":
            parts.append("answers from expired entries while the source does not answer")
    return "; ".join(parts)


def _fixed(text: str) -> Callable[[Directive], str]:
    return lambda d: text.format(args=" ".join(d.args) or "its default")


_PLUGINS: dict[str, Callable[[Directive], str]] = {
    "kubernetes": _kubernetes,
    "forward": _forward,
    "cache": _cache,
    "errors": _fixed("writes errors to its log"),
    "log": _fixed("writes each question to its log"),
    "health": _fixed("says over HTTP (port 8080) that it lives"),
    "ready": _fixed("says over HTTP (port 8181) when all plugins are ready"),
    "prometheus": _fixed("offers metrics at {args}"),
    "loop": _fixed("stops CoreDNS when its own question comes back to it"),
    "reload": _fixed("reads a changed Corefile again"),
    "loadbalance": _fixed("shuffles the addresses of each answer"),
    "bind": _fixed("listens on {args} only"),
    "hosts": _fixed("answers from a table of names like /etc/hosts"),
    "rewrite": _fixed("changes questions or answers: {args}"),
    "template": _fixed("makes answers from a pattern: {args}"),
    "file": _fixed("answers from a zone file: {args}"),
    "autopath": _fixed("walks the pod's search list itself, in one round trip: {args}"),
    "lameduck": _fixed("goes on answering for {args} while it stops"),
    "acl": _fixed("lets only some clients ask: {args}"),
    "import": _fixed("takes in {args}, which is not recorded here"),
}


_NO_ANSWERS = frozenset(
    [
        "kubernetes",
        "cache",
        "errors",
        "log",
        "health",
        "ready",
        "prometheus",
        "loop",
        "reload",
        "loadbalance",
        "bind",
        "lameduck",
        "acl",
        "autopath",
        "rewrite",
        "debug",
        "pprof",
        "trace",
        "bufsize",
        "metadata",
        "cancel",
        "header",
        "minimal",
        "nsid",
        "timeouts",
        "tls",
        "transfer",
    ]
)
"""Plugins that answer no name outside the cluster by themselves."""


def explain_corefile(
    corefile: Corefile,
    ref: FactRef | None = None,
    command: str = "kubectl get configmap --namespace kube-system coredns -o yaml",
) -> CorefileExplained:
    """Say what a Corefile does. A plugin that is not known here stays in the table, marked so: nothing is guessed."""
    lines = tuple(
        Line(tuple(_zone_names(block)), str(plugin), _in_words(plugin), plugin.line)
        for block in corefile.servers
        for plugin in block.plugins
    )
    plugins = [(block, plugin) for block in corefile.servers for plugin in block.plugins]
    served = [(block, plugin) for block, plugin in plugins if plugin.name == "kubernetes"]
    zones = [zone for block, plugin in served for zone in plugin.args or tuple(_zone_names(block))]
    upstream = _upstream(corefile)
    stubs = tuple(zone for zone in upstream if zone != "." and zone not in _dotted(zones))
    node_local = any(plugin.name == "bind" and any(LINK_LOCAL in arg for arg in plugin.args) for _, plugin in plugins)
    evidence = (Evidence(ref or FactRef("configmaps"), command, corefile.lines, "the Corefile"),)
    return CorefileExplained(
        cluster_zones=tuple(dict.fromkeys(zones)),
        ttl=_ttl(served[0][1]) if served else None,
        cache="; ".join(dict.fromkeys(_cache(plugin) for _, plugin in plugins if plugin.name == "cache"))
        or "nothing is kept",
        upstream=upstream,
        stub_domains=stubs,
        node_local=node_local,
        outside=_outside(corefile, upstream),
        lines=lines,
        notes=_notes(corefile, node_local),
        evidence=evidence,
    )


def _in_words(plugin: Directive) -> str:
    words = _PLUGINS.get(plugin.name)
    return words(plugin) if words else ""


def _zone_names(block: ServerBlock) -> list[str]:
    return [zone.name if zone.port == 53 else f"{zone.name}:{zone.port}" for zone in block.zones]


def _dotted(zones: list[str]) -> set[str]:
    return {zone.rstrip(".") + "." for zone in zones}


def _ttl(kubernetes: Directive) -> int:
    text = next((option.args[0] for option in kubernetes.options("ttl") if option.args), "5")
    return int(text) if text.isdecimal() else 5


def _upstream(corefile: Corefile) -> dict[str, tuple[str, ...]]:
    """Where questions go that this server hands on. ``forward .`` in a block for one zone means that zone."""
    found: dict[str, tuple[str, ...]] = {}
    for block in corefile.servers:
        for plugin in block.plugins:
            if plugin.name == "forward" and len(plugin.args) > 1:
                named = [plugin.args[0].rstrip(".") + "."] if plugin.args[0] != "." else [z.name for z in block.zones]
                found.update(dict.fromkeys(named, plugin.args[1:]))
    return found


def _outside(corefile: Corefile, upstream: dict[str, tuple[str, ...]]) -> str:
    if not corefile.servers and not corefile.unread:
        return "Other names: not known, the Corefile is empty"
    if "." in upstream:
        return f"Other names: asked of {' or '.join(upstream['.'])}"
    if corefile.unread:
        return "Other names: not known, an import may hold a forward"
    others = sorted({p.name for block in corefile.servers for p in block.plugins} - _NO_ANSWERS)
    if others:
        return f"Other names: not known, it depends on {', '.join(others)}"
    whole = any(zone.name == "." for block in corefile.servers for zone in block.zones)
    answer = "SERVFAIL, since no plugin answers them" if whole else "REFUSED, since no block is for them"
    return f"Other names: there is no forward to another server, so the answer is {answer}"


def _notes(corefile: Corefile, node_local: bool) -> tuple[str, ...]:
    notes = [f"Line {each.line}: {each} is not recorded here: what it adds is unknown" for each in corefile.unread]
    if not corefile.servers and not corefile.unread:
        notes.append("The Corefile is empty: no server block in it, so it says of no zone what is answered")
    if node_local:
        notes.append(
            "This is a NodeLocal DNSCache: pods ask a cache on their own node, which asks the cluster's by TCP"
        )
    return tuple(notes)
