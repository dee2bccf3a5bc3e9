"""A DNS server for tests that is a function: the Services of the bundled cluster, as CoreDNS would answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import RecordedSource, open_recording

__all__ = ["AskedSource", "zone"]

DOMAIN = "cluster.local."


def zone(source: RecordedSource) -> dict[tuple[str, str], list[str]]:
    """(name, type) -> records of every Service."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in json.loads(source.read(FactRef("services")))["items"]:
        name = "{name}.{namespace}.svc.".format(**item["metadata"]) + DOMAIN
        spec = item["spec"]
        found[name, "CNAME" if spec["type"] == "ExternalName" else "A"] = (
            [spec["externalName"] + "."] if spec["type"] == "ExternalName" else [spec["clusterIP"]]
        )
        if spec.get("clusterIP") == "None":
            found[name, "A"] = ["10.244.3.4", "10.244.18.4"]
        elif spec.get("clusterIP"):
            found[dns.reversename.from_address(spec["clusterIP"]).to_text(), "PTR"] = [name]
        for port in spec.get("ports") or ():
            if port.get("name"):
                service = f"_{port['name']}._{port['protocol'].lower()}.{name}"
                found[service, "SRV"] = [f"0 100 {port['port']} {name}"]
    return found


class AskedSource(RecordedSource):
    """The bundled recording without its logs, whose pods can be asked. ``asked``: (pod, server, question, how)."""

    kind = "live"

    def __init__(self) -> None:
        whole = open_recording(BUNDLED)
        super().__init__(whole._files, whole.where)
        self.zone, self.asked = zone(whole), list[tuple[str, str, str, str]]()
        self.sent = self.asked
        self.silent: set[str] = set()
        self.gone: set[str] = set()

    def refs(self) -> list[FactRef]:
        return [ref for ref in super().refs() if ref.fact != "dns.jsonl"]

    def exchange(self, pod: str, request: Mapping[str, Any]) -> dict[str, Any]:
        query = dns.message.from_wire(base64.b64decode(request["wire"]))
        question = query.question[0]
        self.asked.append((pod, request["server"], question.to_text(), request["transport"]))
        if pod in self.gone:
            from k8snet_nb.errors import AgentError

            raise AgentError("its processes are gone", "gone")
        told = {"kind": "answered", "reply": None, "error": None, "ms": 1.0, "ignored": []}
        if request["server"] in self.silent:
            return {**told, "kind": "silent", "error": f"no answer within {request['timeout']:g} s"}
        return {**told, "reply": base64.b64encode(self._answer(query).to_wire()).decode()}

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        name, kind = query.question[0].name.to_text(), dns.rdatatype.to_text(query.question[0].rdtype)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        for made in (kind, "CNAME"):
            if (name, made) in self.zone:
                texts = self.zone[name, made]
                reply.answer.append(dns.rrset.from_text(name, 30, dns.rdataclass.IN, made, *texts))
                return reply
        if not any(known == name for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply
