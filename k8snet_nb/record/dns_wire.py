"""A DNS message with other names and addresses in it: same id, flags, sections, types and times to live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

__all__ = ["map_message"]

Textual = Callable[[str], str]
_ADDRESSES = {dns.rdatatype.A, dns.rdatatype.AAAA}
_TARGETS = {
    dns.rdatatype.CNAME: ("target",),
    dns.rdatatype.NS: ("target",),
    dns.rdatatype.PTR: ("target",),
    dns.rdatatype.SRV: ("target",),
    dns.rdatatype.MX: ("exchange",),
    dns.rdatatype.SOA: ("mname", "rname"),
}


def map_message(wire: bytes, domain: Textual, address: Textual) -> bytes:
    """The message on the wire with every name and address mapped; records of other types are left out.

    Raises ValueError for what is no message.
    """
    try:
        message = dns.message.from_wire(wire, continue_on_error=bool(len(wire) > 2 and wire[2] & 2))
        for section in message.sections:
            section[:] = [mapped for rrset in section if (mapped := _rrset(rrset, domain, address)) is not None]
        message.index = {}
        if message.edns >= 0:
            message.use_edns(message.edns, message.ednsflags, message.payload, message.request_payload)
        return message.to_wire(max_size=65535)
    except (dns.exception.DNSException, IndexError) as broken:
        raise ValueError(f"not a DNS message: {broken}") from broken


def _name(name: dns.name.Name, domain: Textual) -> dns.name.Name:
    return dns.name.from_text(domain(name.to_text()), None)


def _rrset(rrset: dns.rrset.RRset, domain: Textual, address: Textual) -> dns.rrset.RRset | None:
    told = dns.rrset.RRset(_name(rrset.name, domain), rrset.rdclass, rrset.rdtype, rrset.covers, rrset.deleting)
    told.ttl = rrset.ttl
    if not len(rrset):
        return told  # a question
    for rdata in rrset:
        mapped = _rdata(rdata, domain, address)
        if mapped is not None:
            told.add(mapped, rrset.ttl)
    return told if len(told) else None


def _rdata(rdata: Any, domain: Textual, address: Textual) -> Any:
    if rdata.rdtype in _ADDRESSES:
        return rdata.replace(address=address(rdata.address))
    fields = _TARGETS.get(rdata.rdtype)
    if fields is None:
        return None
    return rdata.replace(**{field: _name(getattr(rdata, field), domain) for field in fields})
