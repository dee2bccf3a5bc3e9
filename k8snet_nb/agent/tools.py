"""Facts that only the node's own tools can tell: rules, sets, virtual servers, tracked connections.

Each is asked only where that loads no module into the kernel; which tool of which version ran is said with the fact.
"""

from __future__ import annotations

import importlib.util
import os
import site
from functools import lru_cache

from . import ipvs as ipvs_netlink
from .command import find_tool, run, short
from .conntrack import stats_text
from .kernel import Missing, loadable_by_asking

__all__ = ["conntrack", "ipset", "iptables", "ipvs", "nft", "version"]

_SECONDS = 30.0
_LIMIT = 128 * 1024 * 1024
_VERSION_OPTION = {"ip": "-V", "bridge": "-V", "ss": "-V", "nft": "--version"}
Told = tuple[bytes, str]


def _tool(argv: list[str]) -> Told:
    path = find_tool(argv[0])
    if path is None:
        raise Missing("the node has no %s" % argv[0])
    outcome = run([path, *argv[1:]], _SECONDS, _LIMIT)
    if outcome.ended == "timed_out":
        raise Missing("%s: no answer within %d s" % (short(argv), _SECONDS), "failed")
    if outcome.ended:
        raise Missing("%s: %s" % (short(argv), outcome.ended), "failed")
    if outcome.status != 0:
        why = outcome.err.decode("utf-8", "replace").strip()[:2000]
        code = "denied" if "ermission denied" in why or "not permitted" in why or "must be root" in why else "failed"
        raise Missing("%s: exit %s: %s" % (short(argv), outcome.status, why), code)
    return outcome.out, version(argv[0]) or argv[0]


@lru_cache(maxsize=None)
def version(name: str) -> str | None:
    """The first line that a tool says of its version; None where the node has no such tool."""
    path = find_tool(name)
    if path is None:
        return None
    # ipvsadm asks the kernel even for its version, and that may load ip_vs.
    if name == "ipvsadm" and loadable_by_asking("ip_vs"):
        return None
    outcome = run([path, _VERSION_OPTION.get(name, "--version")], 5.0, 65536)
    text = (outcome.out or outcome.err).decode("utf-8", "replace").strip()
    return text.split("\n", 1)[0][:200] if outcome.status == 0 and text else None


def _ask_for(module: str, what: str) -> None:
    if loadable_by_asking(module):
        raise Missing("not loaded: the kernel has no %s now, and asking for %s could load it" % (module, what))


def nft() -> Told:
    """``nft -j list ruleset``."""
    _ask_for("nf_tables", "the nftables ruleset")
    return _tool(["nft", "-j", "list", "ruleset"])


def iptables(family: str, legacy: bool) -> Told:
    """``iptables-save -c`` of one family ("" or "6") and flavour.

    The legacy flavour is asked only where /proc/net says that it has tables: its tool would make them otherwise.
    """
    name = "ip%stables" % family
    if legacy:
        return _legacy(name, family)
    for tool in ("%s-nft-save" % name, "%s-save" % name):
        if find_tool(tool) is None:
            continue
        if _is_legacy(tool):
            return _legacy(name, family, tool)
        _ask_for("nf_tables", "the rules of iptables-nft")
        return _tool([tool, "-c"])
    raise Missing("the node has no %s-save" % name)


def _is_legacy(tool: str) -> bool:
    path = os.path.realpath(find_tool(tool) or "")
    if "nft" in os.path.basename(path):
        return False
    return "legacy" in os.path.basename(path) or "nf_tables" not in (version(tool) or "")


def _legacy(name: str, family: str, tool: str = "") -> Told:
    try:
        with open("/proc/thread-self/net/ip%s_tables_names" % family) as file:
            tables = file.read().split()
    except FileNotFoundError:
        raise Missing(
            "not loaded: the kernel has no legacy iptables (no /proc/net/ip%s_tables_names)" % family
        ) from None
    except PermissionError:
        raise Missing("reading /proc/net/ip%s_tables_names needs root" % family, "denied") from None
    if not tables:
        raise Missing("not loaded: no legacy table in /proc/net/ip%s_tables_names" % family)
    return _tool([tool or "%s-legacy-save" % name, "-c"])


def ipset() -> Told:
    """``ipset save``."""
    _ask_for("ip_set", "sets")
    return _tool(["ipset", "save"])


def ipvs(fact: str, *options: str) -> Told:
    """``ipvsadm`` with some options, else the kernel by netlink; asked only where /proc/net/ip_vs is there."""
    if not os.path.exists("/proc/thread-self/net/ip_vs"):
        raise Missing("not loaded: the kernel has no IPVS (no /proc/net/ip_vs)")
    if find_tool("ipvsadm") is not None:
        return _tool(["ipvsadm", *options])
    try:
        _find_pyroute2()
        return ipvs_netlink.FACTS[fact]().encode(), "netlink"
    except ImportError:
        raise Missing("the node has neither ipvsadm nor pyroute2") from None
    except Exception as error:  # noqa: BLE001 - pyroute2 has no one error of its own
        code = "denied" if getattr(error, "code", getattr(error, "errno", 0)) in (1, 13) else "failed"
        raise Missing("no ipvsadm, and the kernel by netlink: %s: %s" % (type(error).__name__, error), code) from None


def _find_pyroute2() -> None:
    """The agent starts without the interpreter's packages; this is the one place that wants one of them."""
    if importlib.util.find_spec("pyroute2") is None:
        site.main()


def _tracked() -> int | None:
    """How many connections the table of this namespace holds; most pods' own tables hold none."""
    try:
        with open("/proc/sys/net/netfilter/nf_conntrack_count") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def conntrack(*options: str) -> Told:
    """``conntrack`` with some options; where the tool is missing the kernel itself, for its counters and its list."""
    if not os.path.exists("/proc/sys/net/netfilter/nf_conntrack_max"):
        raise Missing("not loaded: the kernel tracks no connections (no nf_conntrack)")
    if options[:1] == ("-L",) and _tracked() == 0:
        return b"", "/proc/sys/net/netfilter/nf_conntrack_count, which is 0"
    if find_tool("conntrack") is not None and not loadable_by_asking("nf_conntrack_netlink"):
        return _tool(["conntrack", *options])
    if options == ("-S",):
        return stats_text(), "netlink"
    if options[:1] != ("-L",) or "-f" in options:
        raise Missing("the node has no conntrack")
    try:
        with open("/proc/thread-self/net/nf_conntrack", "rb") as file:
            return file.read(_LIMIT), "/proc/net/nf_conntrack"
    except OSError as error:
        raise Missing("no conntrack tool, and /proc/net/nf_conntrack: %s" % error.strerror) from None
