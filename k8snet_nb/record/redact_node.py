"""Facts of nodes and pods under new names: processes, sockets, namespaces, DNS; command lines lose their arguments."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from typing import Any

from .addresses import AddressMap
from .dns_wire import map_message
from .pseudonyms import Pseudonyms

__all__ = ["NodeRedaction"]

_PROGRAMS = frozenset(
    "init systemd pause containerd containerd-shim containerd-shim-runc-v2 dockerd docker-proxy crio conmon "
    "cri-dockerd kubelet kube-proxy kube-apiserver kube-controller-manager kube-scheduler etcd coredns node-cache "
    "flanneld calico-node cilium-agent sh bash sleep sshd systemd-resolved systemd-networkd "
    "systemd-journald systemd-udevd nginx httpd haproxy envoy".split()
)
_FLAGS = ("--hostname-override", "--node-ip", "--proxy-mode", "--cluster-cidr", "--cluster-dns", "--cluster-domain")
_FOLDERS = re.compile(r"(?:/(?:usr/)?(?:local/)?s?bin|/usr/lib/systemd)?/[\w.-]+")
_HIDDEN = re.compile(
    r"""https?://\S+|"[^"]*"|'[^']*'|--[\w-]+=\S+|\S*@\S+|(?<=\buser )\S+|(?<=\bUser )\S+|(?<=\bcontext )\S+|"""
    r"(?<![\w/])/(?!proc/|lib/modules/|etc/resolv\.conf\b|etc/cni\b|run/netns\b|dev/)[^\s:;,]+|"
    r"\b[\w.-]+(?::\d+)?/[\w./-]+(?::[\w.-]+)?(?=[\s:;,]|$)"
)
"""In a message: URLs, quoted text, users, options, paths and images, which may be anything."""
_IFACE_KEYS = {"ifname", "dev", "link", "master", "oif", "iif", "oifname", "iifname", "label", "bridge"}
_DROPPED = {"ifalias", "altnames", "phys_switch_id", "phys_port_name", "phys_port_id"}
_TABLES = set(
    "main local default all unspec kernel boot static ra dhcp bird babel bgp ospf isis rip eigrp zebra gated mrt xorp "
    "ntk keepalived mrouted openr dnrouted redirect kernel_lo kernel_ra kernel_ll 802.1Q 802.1ad".split()
)
"""Names of routing tables and protocols that iproute2 has by itself."""
_SHIM_ID = re.compile(r" -id [0-9a-f]{64}")
_GROUP = re.compile(
    r"(?:.+-)?kubepods.*|pod[0-9a-f].*|[0-9a-f]{64}|(?:cri-containerd|crio|docker|libpod|crio-conmon)-.*|besteffort|"
    r"burstable|guaranteed|[a-z]+\.slice|init\.scope|\.\.|kubelet\.service|containerd\.service|kube-proxy\.service|"
)
_NETNS_FOLDER = re.compile(r"(/(?:var/)?run/(?:docker/)?netns/)(.+)")
_USER = re.compile(r'\("([^"]*)"')


class NodeRedaction:
    """Redacts what a kernel said."""

    def __init__(self, names: Pseudonyms, addresses: AddressMap) -> None:
        self.names, self.addresses = names, addresses

    def plain(self, text: str) -> str:
        """Addresses, MACs, uids and interface names in a text that holds no other names."""
        return self.addresses.text(self.names.marks(text))

    def tracked(self, text: str) -> str:
        """``conntrack``: also without the program that made or deleted an entry, and without security labels."""
        return self.plain(re.sub(r" (?:progname|secctx|helper)=\S+", "", text))

    def settings(self, text: str) -> str:
        """``sysctl``: the names of interfaces in it too, in which sysctl writes a dot as a slash."""

        def renamed(found: re.Match[str]) -> str:
            said = found.group().replace("/", ".")
            return (said if said in ("all", "default") else self.names.interface(said)).replace(".", "/")

        return re.sub(r"(?<=\bnet\.ipv4\.conf\.)\S+(?=\.rp_filter = )", renamed, self.plain(text))

    def prose(self, text: str) -> str:
        """A message, a Corefile, a log line: also every word that is a name of the cluster, and every domain."""

        def word(found: re.Match[str]) -> str:
            said = found.group()
            if self.names.known(said):
                return self.names.name(said)
            if said.rstrip(".").endswith(".arpa"):
                return self.domain(said)
            is_domain = said.count(".") and _is_domain(said) and not said.startswith(("net.", "kernel."))
            return self.names.domain(said) if is_domain else said

        return re.sub(r"(?<![\w@-])[a-z0-9][\w.-]*[\w.]", word, self.plain(text))

    def message(self, text: str) -> str:
        """Why something failed, as a program said it: prose, of which what may be anybody's words is hidden."""
        return self.names.interfaces(self.prose(_HIDDEN.sub("...", text)))

    def domain(self, name: str) -> str:
        """A domain name; one that spells an address spells the new one."""
        lowered = name.lower()
        if lowered.rstrip(".").endswith("in-addr.arpa"):
            parts = lowered.rstrip(".").split(".")[:-2]
            if len(parts) == 4 and all(part.isdigit() for part in parts):
                new = self.addresses.address(".".join(reversed(parts))).split(".")
                return ".".join([*reversed(new), "in-addr", "arpa"]) + ("." if name.endswith(".") else "")
            return name
        if lowered.rstrip(".").endswith("ip6.arpa"):
            return self._nibbles(name)
        dashed = re.sub(r"(?<![\w-])\d{1,3}(?:-\d{1,3}){3}(?![\w-])", self._dashed, name)
        return ".".join(p if re.fullmatch(r"\d+(?:-\d+){3}", p) else self.names.domain(p) for p in dashed.split("."))

    def _dashed(self, found: re.Match[str]) -> str:
        return self.addresses.address(found.group().replace("-", ".")).replace(".", "-")

    def _nibbles(self, name: str) -> str:
        parts = name.rstrip(".").split(".")[:-2]
        if len(parts) != 32:
            return name
        digits = "".join(reversed(parts))
        new = self.addresses.address(":".join(digits[i : i + 4] for i in range(0, 32, 4)))
        return ipaddress.IPv6Address(new).reverse_pointer + ("." if name.endswith(".") else "")

    def json_text(self, content: bytes) -> bytes:
        """A JSON fact of ip, bridge or lsns: strings are plain text, an address beside its length is of its network."""
        return (json.dumps(self._value(json.loads(content)), indent=1) + "\n").encode()

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if not isinstance(value, dict):
            return self.plain(value) if isinstance(value, str) else value
        told = {key: self._field(key, one) for key, one in value.items() if key not in _DROPPED}
        if isinstance(value.get("command"), str):
            told["command"] = self.command(value["command"])
        if isinstance(value.get("nsfs"), str):
            told["nsfs"] = self._bound(value["nsfs"])
        if isinstance(value.get("dst"), str) and isinstance(value.get("dstlen"), int):
            told["dst"] = self.addresses.network(value["dst"], value["dstlen"])
        if isinstance(value.get("src"), str) and isinstance(value.get("srclen"), int):
            told["src"] = self.addresses.network(value["src"], value["srclen"])
        return told

    def _field(self, key: str, value: Any) -> Any:
        if isinstance(value, str) and key in _IFACE_KEYS:
            return self.names.interface(value)
        if isinstance(value, str) and key in ("table", "protocol") and value not in _TABLES and not value.isdecimal():
            return f"{key}-{self.names.digest(f'{key} {value}', 6)}"
        return self._value(value)

    def addr(self, content: bytes) -> bytes:
        """``addr.json``: the first fact of its place, from which the interfaces' names are learnt."""
        links = [link for link in json.loads(content) if isinstance(link, dict)]
        self.names.learn_interfaces(str(link[key]) for link in links for key in ("ifname", "link") if link.get(key))
        return self.json_text(content)

    def _bound(self, path: str) -> str:
        marked = self.names.marks(path)
        found = _NETNS_FOLDER.fullmatch(path)
        if marked != path or found is None:
            return marked
        return f"{found[1]}netns-{self.names.digest(path, 8)}"

    def command(self, line: str) -> str:
        """A command line: the program, where it tells nothing of the cluster, and the few flags that answers need."""
        words = line.split(" ")
        program = words[0].rsplit("/", 1)[-1].rstrip(":")
        if program not in _PROGRAMS:
            return "app"
        told = [words[0].rstrip(":") if _FOLDERS.fullmatch(words[0].rstrip(":")) else program]
        if program.startswith("containerd-shim"):
            found = _SHIM_ID.search(line)
            return told[0] + (f" -namespace k8s.io{self.names.marks(found.group())}" if found else "")
        for word, following in zip(words[1:], [*words[2:], ""], strict=False):
            flag, equals, value = word.partition("=")
            if flag in _FLAGS:
                told.append(f"{flag}{equals or ' '}{self._flag(flag, value if equals else following)}")
        return " ".join(told)

    def _flag(self, flag: str, value: str) -> str:
        if flag == "--hostname-override":
            return self.names.name(value, "node")
        if flag == "--cluster-domain":
            return self.domain(value)
        if flag == "--proxy-mode":
            return value if value in ("iptables", "ipvs", "nftables", "kernelspace") else "other"
        return ",".join(self.addresses.text(one) if _is_network(one) else "..." for one in value.split(","))

    def processes(self, content: bytes) -> bytes:
        """``processes.json``."""
        told = []
        for process in json.loads(content):
            groups = ["/".join(map(self._group, str(path).split("/"))) for path in process.get("cgroups") or ()]
            line = self.command(str(process["cmdline"])) if process.get("cmdline") else ""
            about = {"pid": process.get("pid"), "netns": process.get("netns"), "cgroups": groups, "cmdline": line}
            told.append(about)
        return (json.dumps(told, indent=1) + "\n").encode()

    def _group(self, part: str) -> str:
        if self.names.known(part):
            return self.names.name(part)
        return self.names.marks(part) if _GROUP.fullmatch(part) else f"group-{self.names.digest(part, 8)}"

    def sockets(self, text: str) -> str:
        """``ss -tunap``: addresses, and programs by the same rule as command lines."""

        def user(found: re.Match[str]) -> str:
            return f'("{found[1] if found[1] in _PROGRAMS else "app"}"'

        text = re.sub(r"(?<=%)[\w.-]+", lambda m: self.names.interface(m[0]), _USER.sub(user, text))
        return "\n".join(map(self.plain, text.split("\n")))

    def kernel_log(self, text: str) -> str:
        """Only the lines that say that the connection table was full: others may hold anything."""
        return "".join(line + "\n" for line in text.splitlines() if "nf_conntrack: table full" in line)

    def resolv_conf(self, text: str) -> str:
        """``resolv.conf``: comments go, domains and addresses are mapped."""
        lines = []
        for line in text.split("\n"):
            words = line.split()
            if words[:1] in (["search"], ["domain"]):
                line = " ".join([words[0], *(self.domain(word) for word in words[1:])])
            elif line.lstrip().startswith(("#", ";")):
                continue
            lines.append(self.addresses.text(line))
        return "\n".join(lines)

    def dns_log(self, text: str) -> str:
        """``dns.jsonl``: the question's name, the server, and every name and address in the answer on the wire."""
        lines = []
        for line in text.splitlines():
            if not line.strip():
                continue
            entry = json.loads(line)
            entry = {key: entry.get(key) for key in ("name", "type", "server", "transport", "ms", "response", "error")}
            entry["name"] = self.domain(str(entry["name"]))
            entry["server"] = self.addresses.text(str(entry["server"]))
            if entry["error"] is not None:
                entry["error"] = self.message(str(entry["error"]))
            if entry["response"]:
                entry["response"] = self._message(str(entry["response"]))
            lines.append(json.dumps(entry) + "\n")
        return "".join(lines)

    def _message(self, text: str) -> str:
        try:
            wire = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return ""  # what is no message before is none afterwards
        return base64.b64encode(map_message(wire, self.domain, self.addresses.address)).decode()


def _is_domain(text: str) -> bool:
    """At least two labels with a letter in the last: not a version, not a file's name in a path."""
    last = text.rstrip(".").rsplit(".", 1)[-1]
    return (
        last.isalpha() and len(last) > 1 and last not in ("conf", "json", "txt", "yaml", "crt", "key", "go", "service")
    )


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
