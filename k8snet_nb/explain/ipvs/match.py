"""Does one iptables rule match the packet that IPVS is about to see, or has just sent on?

The matches themselves are those of :mod:`..iptables.match`. Here is what IPVS adds: sets that hold a source (who may
use a load balancer, and the endpoint that calls itself), and what to make of a source that is known by its kind only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ...parse.ipset import IpSet, match, sources
from ...parse.iptables import Match, Rule, Ruleset
from ..iptables.match import Context, Fork, Verdict, test_match
from ..iptables.state import Source, State, net, overlaps
from ..outcome import NodeView, Packet

__all__ = ["Around"]


@dataclass
class Around:
    """The packet at one hook, with the node and the sets around it.

    ``cluster``: the prefixes that the rules take for the pods'. ``ranges`` collects the source prefixes that rules of
    the INPUT hook let through for this destination.
    """

    context: Context
    cluster: frozenset[str] = frozenset()
    ranges: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, packet: Packet, view: NodeView, rules: Ruleset, sets: Mapping[str, IpSet] | None) -> Around:
        """From a packet: one that the node sends to an address of its own has that address as its source too."""
        if packet.client == "node" and packet.src is None and packet.dst in view.local:
            packet = replace(packet, src=packet.dst)
        cluster = _pod_prefixes(rules)
        return cls(Context(packet, view, Source(packet, view, cluster), sets), cluster)

    def at(self, hook: str, src: str | None = None) -> Around:
        """The same packet at another hook, perhaps with its source known."""
        context = replace(self.context, hook=hook)
        if src is not None:
            packet = replace(context.packet, src=src)
            context = replace(context, packet=packet, source=Source(packet, context.view, self.cluster))
        return Around(context, self.cluster, self.ranges)

    def matches(self, rule: Rule, state: State) -> bool | None:
        """Whether all matches of a rule hold. False as soon as one does not, None when only undecided ones are left."""
        undecided = False
        for part in rule.matches:
            if part.module == "set":
                held = self._set(part, state)
            else:
                held = self._decide(test_match(self.context, state, part))
            if held is False:
                return False
            undecided = undecided or held is None
        return None if undecided else True

    def _decide(self, verdict: Verdict) -> bool | None:
        if isinstance(verdict, Fork):
            view, client = self.context.view, self.context.packet.client
            pods = [net(prefix) for prefix in {*view.pod_networks, *self.cluster}]
            if client == "outside" and any(overlaps(net(verdict.prefix), pod) for pod in pods):
                return verdict.negated  # whoever comes from outside is no pod of the cluster
            if client == "pod" and not view.pod_networks and not view.pod_addresses and verdict.prefix in self.cluster:
                return not verdict.negated  # the node has no pods yet: they will be where the rules expect them
            return None
        return None if isinstance(verdict, Fraction) else verdict

    def _set(self, part: Match, state: State) -> bool | None:
        option, sets = part.option("--match-set"), self.context.ipsets
        if option is None or len(part.options) != 1 or len(option.values) != 2:
            return None
        if sets is None or option.value not in sets:
            return None
        packet, ways = self.context.packet, option.values[1].split(",")
        fields = {"src": packet.src, "dst": state.dst, "dport": state.dport, "protocol": packet.protocol}
        held = match(sets[option.value], ways, fields)
        if "src" in ways:
            fitting = sources(sets[option.value], ways, fields)
            if self.context.hook == "INPUT":
                self.ranges += [source for source in fitting if source not in self.ranges]
            if held is None and fitting and all(source == state.dst for source in fitting):
                held = False  # only a client that is this very endpoint: it is asked about apart
        return held if held is None or not option.negated else not held


def _pod_prefixes(rules: Ruleset) -> frozenset[str]:
    """Prefixes that kube-proxy's rules take for the pods': whoever comes from elsewhere is marked for masquerading."""
    chain = rules.chain("nat", "KUBE-SERVICES")
    options = [option for rule in chain.rules() for part in rule.matches for option in part.options] if chain else []
    return frozenset(option.value for option in options if option.name == "-s" and option.negated)
