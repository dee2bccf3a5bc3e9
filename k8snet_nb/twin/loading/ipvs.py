"""The recorded virtual servers as one ``ipvsadm -R``: lines written anew from parsed values, never as recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from ...parse.ipvs import RealServer, VirtualServer
from ...text import socket_text
from ..model import LeftOut, Step

__all__ = ["server_step"]

_FACT = "ipvs-save.txt"
_SCHEDULERS = frozenset("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos".split())
_FLAGS = frozenset("flag-1 flag-2 flag-3 sh-fallback sh-port mh-fallback mh-port".split())
_OPTIONS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
_FORWARDS = {"Masq": "-m", "Route": "-g", "Tunnel": "-i"}
_LONGEST_PERSISTENCE = 31 * 24 * 3600  # seconds; what ipvsadm takes
_TUNNEL_VALUES = {"--tun-type": re.compile(r"ipip|gue|gre"), "--tun-port": re.compile(r"\d{1,5}", re.ASCII)}
_TUNNEL_FLAGS = frozenset(("--tun-nocsum", "--tun-csum", "--tun-remcsum"))


def server_step(servers: Iterable[VirtualServer], node: str) -> tuple[Step | None, tuple[LeftOut, ...]]:
    """The command that makes the virtual servers with their real servers; None where there are none."""
    lines, left_out, count = list[str](), list[LeftOut](), 0
    for virtual in servers:
        if why := _virtual_problem(virtual):
            gone = f"{why}; its {len(virtual.servers)} real servers go with it"
            left_out.append(LeftOut(node, _FACT, virtual.text, gone))
            continue
        count += 1
        lines.append(f"-A {_which(virtual)}{_virtual_options(virtual)}")
        for real in virtual.servers:
            if why := _real_problem(real):
                left_out.append(LeftOut(node, _FACT, real.text, why))
            else:
                lines.append(f"-a {_which(virtual)}{_real_options(real)}")
    says = f"{_FACT}: {count} virtual server{'s' if count != 1 else ''}"
    return (Step(("ipvsadm", "-R"), "\n".join([*lines, ""]), says) if count else None), tuple(left_out)


def _which(virtual: VirtualServer) -> str:
    if virtual.fwmark is not None:
        return f"-f {virtual.fwmark}" + (" -6" if virtual.family == 6 else "")
    return f"{_OPTIONS[str(virtual.protocol)]} {socket_text(str(virtual.address), int(virtual.port or 0))}"


def _virtual_options(virtual: VirtualServer) -> str:
    text = f" -s {virtual.scheduler}"
    text += f" -p {virtual.persistent}" if virtual.persistent is not None else ""
    text += f" -M {virtual.netmask}" if virtual.netmask else ""
    text += f" --pe {virtual.engine}" if virtual.engine else ""
    text += " -o" if virtual.one_packet else ""
    return text + (f" -b {','.join(virtual.flags)}" if virtual.flags else "")


def _real_options(real: RealServer) -> str:
    words = [f" -r {socket_text(real.address, real.port)}", _FORWARDS[real.forward], *real.tunnel, f"-w {real.weight}"]
    return " ".join(words)


def _virtual_problem(virtual: VirtualServer) -> str | None:
    if virtual.scheduler not in _SCHEDULERS:
        return f"{virtual.scheduler!r} is no scheduler of the kernel"
    if virtual.persistent is not None and not 0 < virtual.persistent <= _LONGEST_PERSISTENCE:
        return f"{virtual.persistent} is no time of persistence"
    if virtual.engine not in (None, "sip"):
        return f"{virtual.engine!r} is no persistence engine of the kernel"
    if not _FLAGS.issuperset(virtual.flags):
        return f"{','.join(virtual.flags)!r} are no flags of a scheduler"
    return None if virtual.netmask is None or _is_mask(virtual) else f"{virtual.netmask!r} is no netmask"


def _is_mask(virtual: VirtualServer) -> bool:
    mask = str(virtual.netmask)
    if virtual.family == 6:
        return mask.isascii() and mask.isdigit() and len(mask) < 4 and 1 <= int(mask) <= 128
    try:
        return ip_address(mask).version == 4
    except ValueError:
        return False


def _real_problem(real: RealServer) -> str | None:
    if real.forward not in _FORWARDS:
        return f"{real.forward} cannot be asked for"
    options = iter(real.tunnel)
    for option in options:
        wanted = _TUNNEL_VALUES.get(option)
        if option not in _TUNNEL_FLAGS and (wanted is None or not wanted.fullmatch(next(options, ""))):
            return f"{option} is not an option of a tunnel that the twin takes"
    return None
