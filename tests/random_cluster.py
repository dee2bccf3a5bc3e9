"""A recording of a made-up cluster: dual-stack, with names, addresses and odd things that no other test has."""

from __future__ import annotations

import base64
import ipaddress
import json
import random
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset

from k8snet_nb.record.pseudonyms import chain_hash

__all__ = ["RandomCluster"]


class RandomCluster:
    """Drawn from a seed. ``secrets`` holds every name, address and id that a redacted recording must not have."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.secrets: set[str] = set()
        self.v4 = ipaddress.ip_network(f"10.{self.draw.randint(100, 250)}.0.0/16")
        self.v6 = ipaddress.ip_network(f"fd{self.draw.randint(16, 255):02x}:{self.draw.randint(4096, 65535):x}::/48")
        self.vips = ipaddress.ip_network(f"10.{self.draw.randint(20, 90)}.0.0/16")
        self.nodes = [self.name("host") for _ in range(2)]
        self.spaces = [self.name("team") for _ in range(2)]
        self.pods = [self._pod(number) for number in range(self.draw.randint(4, 8))]
        self.services = [self._service() for _ in range(self.draw.randint(2, 4))]

    def name(self, word: str) -> str:
        made = f"{word}{self.draw.choice('xyz')}-{self.draw.randint(1000, 9999)}q"
        self.secrets.add(made)
        return made

    def uid(self) -> str:
        made = "-".join(f"{self.draw.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12))
        self.secrets.add(made)
        return made

    def secret(self, text: object) -> str:
        self.secrets.add(str(text))
        return str(text)

    def _pod(self, number: int) -> dict[str, Any]:
        four = self.secret(self.v4[256 * (number % 2 + 1) + self.draw.randint(2, 250)])
        six = self.secret(self.v6[(number % 2 << 64) + self.draw.getrandbits(48) + 2])
        mac = self.secret("0a:58:" + ":".join(f"{byte:02x}" for byte in ipaddress.ip_address(four).packed))
        return {"node": self.nodes[number % 2], "name": self.name("app"), "space": self.draw.choice(self.spaces),
                "ips": [four, six], "uid": self.uid(), "mac": mac,
                "container": self.secret(f"{self.draw.getrandbits(256):064x}"),
                "interface": self.secret(f"pod{number}{self.draw.randint(100, 999)}z")}  # fmt: skip

    def _service(self) -> dict[str, Any]:
        return {"name": self.name("svc"), "space": self.draw.choice(self.spaces), "port": self.draw.randint(1, 65535),
                "vip": self.secret(self.vips[self.draw.randint(20, 60000)]),
                "pods": self.draw.sample(self.pods, self.draw.randint(1, 3))}  # fmt: skip

    # the API

    def lists(self) -> dict[str, Any]:
        owner = self.name("set")
        pods = [{"metadata": {**_meta(pod), "ownerReferences": [{"kind": "Set", "name": owner, "uid": self.uid()}],
                              "labels": {"app": pod["name"]}, "annotations": {"team": self.name("note")}},
                 "spec": {"nodeName": pod["node"], "containers": [{"name": self.name("box"),
                          "image": self.name("image"),
                          "env": [{"name": "A", "value": self.name("password")}], "args": [self.name("arg")]}]},
                 "status": {"phase": "Running", "podIP": pod["ips"][0], "podIPs": [{"ip": ip} for ip in pod["ips"]],
                            "containerStatuses": [{"containerID": f"containerd://{pod['container']}", "ready": True}]}}
                for pod in self.pods]  # fmt: skip
        nodes = [{"metadata": {"name": node, "labels": {"rack": self.name("rack")}},
                  "spec": {"podCIDR": str(self._cidr(number)), "podCIDRs": [str(self._cidr(number))],
                           "providerID": self.name("cloud")},
                  "status": {"addresses": [{"type": "InternalIP", "address": self._node_ip(number)},
                                           {"type": "Hostname", "address": node}], "nodeInfo": {}}}
                 for number, node in enumerate(self.nodes)]  # fmt: skip
        services, slices = [], []
        for service in self.services:
            meta = {"name": service["name"], "namespace": service["space"], "uid": self.uid()}
            port = {"name": "web", "port": service["port"], "protocol": "TCP", "targetPort": 8080}
            services.append({"metadata": meta, "spec": {"type": "ClusterIP", "clusterIP": service["vip"],
                             "clusterIPs": [service["vip"]], "ports": [port], "selector": {"app": service["name"]},
                             "ipFamilies": ["IPv4"]}, "status": {"loadBalancer": {}}})  # fmt: skip
            ends = [{"addresses": [pod["ips"][0]], "conditions": {"ready": True}, "nodeName": pod["node"],
                     "targetRef": {"kind": "Pod", "name": pod["name"], "namespace": pod["space"], "uid": pod["uid"]}}
                    for pod in service["pods"]]  # fmt: skip
            label = {"kubernetes.io/service-name": service["name"]}
            slices.append({"metadata": {"name": self.name("slice"), "namespace": service["space"], "labels": label},
                           "addressType": "IPv4", "endpoints": ends,
                           "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}]})  # fmt: skip
        spaces = [{"metadata": {"name": space}} for space in self.spaces]
        return {"nodes": nodes, "pods": pods, "services": services, "endpointslices": slices, "namespaces": spaces,
                "networkpolicies": [], "configmaps": [], "servicecidrs": []}  # fmt: skip

    def _cidr(self, number: int) -> ipaddress.IPv4Network:
        return list(self.v4.subnets(new_prefix=24))[number + 1]  # type: ignore[return-value]

    def _node_ip(self, number: int) -> str:
        return self.secret(f"192.168.{200 - number}.{number + 11}")

    # a node

    def facts(self, node: str) -> dict[str, str]:
        outside = self.secret(f"93.{self.draw.randint(100, 200)}.{self.draw.randint(100, 250)}.34")
        user, path = self.name("alice"), self.name("dir")
        lines = [self._tracked(service, outside) for service in self.services]
        processes = [{"pid": 9, "netns": 1, "cgroups": [f"/kubepods/besteffort/pod{p['uid']}/{p['container']}"],
                      "cmdline": f"/opt/{path}/{p['name']} --token={user}"} for p in self.pods]  # fmt: skip
        processes.append(
            {
                "pid": 8,
                "netns": 1,
                "cgroups": [f"/{path}.slice"],
                "cmdline": f"/usr/bin/kubelet --hostname-override={node} --root-dir=/{path} --node-ip 192.168.200.11",
            }
        )
        socket = f'udp UNCONN 0 0 192.168.200.11%{self.pods[0]["interface"]}:68 0.0.0.0:* users:(("{user}",pid=1,fd=2))'
        full = "[2] nf_conntrack: nf_conntrack: table full, dropping packet"
        return {
            "addr.json": json.dumps(self._links(node)),
            "route.json": json.dumps([{"dst": str(self._cidr(0)), "dev": "cni0", "table": self.name("table")}]),
            "iptables-save.txt": self._iptables(),
            "nft.json": json.dumps(self._nft()),
            "ipset.txt": self._ipset(),
            "conntrack.txt": "\n".join(lines) + "\n",
            "processes.json": json.dumps(processes),
            "sockets.txt": socket + "\n",
            "kernel-log.txt": f"[1] {user} did something\n{full}\n",
        }

    def _links(self, node: str) -> list[dict[str, Any]]:
        found = []
        for index, pod in enumerate(p for p in self.pods if p["node"] == node):
            parts = [int(one, 16) for one in pod["mac"].split(":")]
            own = (
                f"fe80::{parts[0] ^ 2:02x}{parts[1]:02x}:{parts[2]:02x}ff:fe{parts[3]:02x}:{parts[4]:02x}{parts[5]:02x}"
            )
            own = self.secret(ipaddress.ip_address(own))
            address = {"family": "inet6", "local": own, "prefixlen": 64, "scope": "link"}
            found.append({"ifindex": index + 3, "ifname": pod["interface"], "link_type": "ether", "address": pod["mac"],
                          "flags": ["UP"], "mtu": 1500, "ifalias": self.name("alias"), "altnames": [self.name("alt")],
                          "linkinfo": {"info_kind": "veth"}, "link_index": 2, "link_netnsid": index,
                          "broadcast": "ff:ff:ff:ff:ff:ff", "addr_info": [address]})  # fmt: skip
        return found

    def _tracked(self, service: dict[str, Any], outside: str) -> str:
        pod = service["pods"][0]["ips"][0]
        return (f"ipv4     2 tcp      6 117 ESTABLISHED src={outside} dst={service['vip']} sport=34834 "
                f"dport={service['port']} src={pod} dst={outside} sport=8080 dport=34834 [ASSURED] "
                f"mark=0 secctx={self.name('label')} use=1 id=7 portid=9 progname={self.name('prog')}")  # fmt: skip

    def range(self) -> tuple[str, str]:
        """A range that is no network."""
        low = self.draw.randint(256, 512)
        first, last = self.v4[low], self.v4[low + self.draw.randint(3, 300)]
        self.secrets |= {str(first), str(last)}
        return str(first), str(last)

    def _iptables(self) -> str:
        rules, chains = [], set()
        for service in self.services:
            about = f"{service['space']}/{service['name']}:web"
            chain = f"KUBE-SVC-{chain_hash(about + 'tcp', 16)}"
            comment = f'-m comment --comment "{about} cluster IP"'
            to = f"-d {service['vip']}/32 -p tcp {comment} -m tcp --dport {service['port']}"
            rules.append(f"-A KUBE-SERVICES {to} -j {chain}")
            chains.add(chain)
            for left, pod in zip(range(len(service["pods"]), 0, -1), service["pods"], strict=True):
                socket = f"{pod['ips'][0]}:8080"
                end = f"KUBE-SEP-{chain_hash(about + 'tcp' + socket, 16)}"
                self.secrets.add(end)
                chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
                rules.append(f'-A {chain} -m comment --comment "{about} -> {socket}" {chance}-j {end}')
                rules.append(f"-A {end} -p tcp -m tcp -j DNAT --to-destination {socket}")
                chains.add(end)
            self.secrets.add(chain)
        first, last = self.range()
        interface, other = self.pods[0]["interface"], self.name("OWN")
        rules.append(f"-A PREROUTING -i {interface} -m iprange --src-range {first}-{last} -j {other}")
        rules.append(f'-A PREROUTING -m comment --comment "{self.name("ticket")}" -j KUBE-SERVICES')
        heads = "".join(f":{one} - [0:0]\n" for one in sorted({*chains, "KUBE-SERVICES", other}))
        return f"*nat\n:PREROUTING ACCEPT [0:0]\n{heads}" + "".join(f"[1:2] {rule}\n" for rule in rules) + "COMMIT\n"

    def _nft(self) -> dict[str, Any]:
        first, last = self.range()
        chain = self.name("chain")
        table = {"family": "ip", "table": self.name("table")}
        pairs = [{"concat": [{"range": [first, last]}, 80]}, {"concat": [self.pods[0]["ips"][0], 81]}]
        match = {
            "op": "!=",
            "left": {"payload": {"protocol": "ip", "field": "saddr"}},
            "right": {"range": [first, last]},
        }
        iif = {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": self.pods[0]["interface"]}
        elements = [{"range": [first, last]}, {"prefix": {"addr": str(self.vips.network_address), "len": 16}},
                    {"elem": {"val": self.pods[1]["ips"][0], "comment": self.name("element")}}]  # fmt: skip
        return {"nftables": [
            {"metainfo": {"json_schema_version": 1}},
            {"table": {"family": "ip", "name": table["table"], "handle": 1, "comment": self.name("about")}},
            {"set": {**table, "name": self.name("set"), "type": "ipv4_addr", "flags": ["interval"], "elem": elements}},
            {"set": {**table, "name": self.name("pair"), "type": ["ipv4_addr", "inet_service"], "elem": pairs}},
            {"chain": {**table, "name": chain, "handle": 4, "comment": self.name("why")}},
            {"rule": {**table, "chain": chain, "handle": 5, "comment": self.name("because"),
                      "expr": [{"match": match}, {"match": iif}, {"log": {"prefix": self.name("log")}}]}},
        ]}  # fmt: skip

    def _ipset(self) -> str:
        own, pod = self.name("mine"), self.pods[0]
        return (f"create {own} hash:net,iface family inet hashsize 64 maxelem 65536 comment\n"
                f'add {own} {self._cidr(0)},{pod["interface"]} comment "{self.name("remark")}"\n'
                f"create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 64 maxelem 65536\n"
                f"add KUBE-CLUSTER-IP {self.services[0]['vip']},tcp:{self.services[0]['port']}\n"
                f"create {own}6 hash:ip family inet6 hashsize 64 maxelem 65536\nadd {own}6 {pod['ips'][1]}\n"
                f"create {own}m hash:mac hashsize 64 maxelem 65536\nadd {own}m {pod['mac'].upper()}\n")  # fmt: skip

    def _dns(self, pod: dict[str, Any]) -> str:
        service = self.services[0]
        name = f"{service['name']}.{service['space']}.svc.cluster.local."
        query = dns.message.make_query(name, "A")
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(name, 5, "IN", "A", service["vip"]))
        reply.additional.append(dns.rrset.from_text(name, 5, "IN", "TXT", self.name("text")))
        line = {"name": name, "type": "A", "server": service["vip"], "transport": "udp", "ms": 1.0, "error": None}
        return json.dumps({**line, "response": base64.b64encode(reply.to_wire()).decode()}) + "\n"

    def write(self, root: Path) -> Path:
        """As a recording of format 1."""
        error = f'forbidden: User "{self.name("user")}" at https://{self.name("api")}:6443'
        about = {"format": 1, "name": self.name("cluster"), "recorded": "2026-01-02T03:04:05Z", "nodes": self.nodes,
                 "errors": {"servicecidrs": error}}  # fmt: skip
        files: dict[str, str] = {"recording.json": json.dumps(about), "api/version.json": '{"gitVersion": "v1.36.0"}'}
        files |= {
            f"api/{kind}.json": json.dumps({"kind": "List", "items": items}) for kind, items in self.lists().items()
        }
        for node in self.nodes:
            errors = {
                "fdb.json": f"/opt/{self.name('tool')}: no such file, said {self.name('bob')}@{self.name('where')}"
            }
            files[f"nodes/{node}/node.json"] = json.dumps({"node": node, "errors": errors, "commands": {}})
            files |= {f"nodes/{node}/{fact}": text for fact, text in self.facts(node).items()}
        for pod in self.pods:
            place = f"nodes/{pod['node']}/pods/{pod['space']}/{pod['name']}"
            search = (
                f"search {pod['space']}.svc.cluster.local svc.cluster.local {self.name('corp')}.{self.name('inc')}.test"
            )
            files[f"{place}/resolv.conf"] = f"# {self.name('remark')}\n{search}\nnameserver {self.services[0]['vip']}\n"
            files[f"{place}/dns.jsonl"] = self._dns(pod)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root


def _meta(pod: dict[str, Any]) -> dict[str, Any]:
    return {"name": pod["name"], "namespace": pod["space"], "uid": pod["uid"]}
