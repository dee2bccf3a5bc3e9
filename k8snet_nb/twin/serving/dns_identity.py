"""Asking a DNS server of a twin who it is: ``id.server.`` of class CHAOS (RFC 4892)."""

from __future__ import annotations

import dns.exception
import dns.message

__all__ = ["identity", "question"]


def question() -> bytes:
    """The message that asks, without the length that TCP puts before it."""
    return dns.message.make_query("id.server.", "TXT", rdclass="CH").to_wire()


def identity(got: bytes) -> list[str]:
    """The five texts of the answer: pod, server, port, peer, peer's port. Raises ValueError for any other message."""
    try:
        reply = dns.message.from_wire(got)
    except dns.exception.DNSException as bad:
        raise ValueError(str(bad)) from None
    texts = [part.decode("utf-8", "replace") for rrset in reply.answer for rdata in rrset for part in rdata.strings]
    if len(texts) != 5:
        raise ValueError("a DNS server that does not say who it is")
    return texts
