"""What the API said, parsed when first asked for and indexed: the join of pods, Services, EndpointSlices and nodes."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from ..errors import FactBroken, NotFound
from ..facts import FactRef
from ..parse.api import parse_list
from ..parse.nodes import NodeValue, parse_node
from ..parse.pods import PodValue, parse_pod
from ..parse.services import SERVICE_LABEL, Endpoint, ServiceValue, Slice, parse_service, parse_slice
from ..render import printable
from ..sources.base import Source

__all__ = ["Api"]

T = TypeVar("T")


class _Objects(Mapping[str, T]):
    """Objects of one resource by key, parsed one by one when asked for: a broken object breaks only its own answers."""

    def __init__(
        self, resource: str, items: Iterable[dict[str, Any]], parse: Callable[[Mapping[str, Any]], T], namespaced: bool
    ) -> None:
        self.raw = {_key(item["metadata"], namespaced): item for item in items}
        self._resource, self._parse = resource, parse
        self._parsed: dict[str, T] = {}

    def __getitem__(self, key: str) -> T:
        if key not in self._parsed:
            self._parsed[key] = self._read(key)
        return self._parsed[key]

    def _read(self, key: str) -> T:
        item = self.raw[key]
        try:
            return self._parse(item)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            why = f"has a field of another kind than the API's ({error})"
            raise FactBroken(f"{self._resource}.json", key, why, "Record it again.") from error

    def __contains__(self, key: object) -> bool:
        return key in self.raw  # without parsing

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class _Endpoints(Mapping[str | None, tuple[Endpoint, ...]]):
    """Endpoints by Service, each Service's slices parsed when it is asked for."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __getitem__(self, service: str | None) -> tuple[Endpoint, ...]:
        names = self._api.slices_by_service[service]
        return tuple(endpoint for name in names for endpoint in self._api.slices[name].endpoints)

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._api.slices_by_service)

    def __len__(self) -> int:
        return len(self._api.slices_by_service)


def _key(meta: Mapping[str, Any], namespaced: bool) -> str:
    return f"{meta.get('namespace', 'default')}/{meta['name']}" if namespaced else str(meta["name"])


class Api:
    """The API's objects from one source. Every property raises FactMissing or FactBroken for its own resource only."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def items(self, resource: str) -> list[dict[str, Any]]:
        """The raw items of one resource's List."""
        return parse_list(self._source.read(FactRef(resource)), resource)

    @cached_property
    def pods(self) -> _Objects[PodValue]:
        """Pods by ``namespace/name``, sorted."""
        return _Objects("pods", _sorted(self.items("pods")), parse_pod, namespaced=True)

    @cached_property
    def services(self) -> Mapping[str, ServiceValue]:
        """Services by ``namespace/name``, sorted."""
        return _Objects("services", _sorted(self.items("services")), parse_service, namespaced=True)

    @cached_property
    def nodes(self) -> Mapping[str, NodeValue]:
        """Nodes by name, sorted."""
        return _Objects("nodes", _sorted(self.items("nodes")), parse_node, namespaced=False)

    @cached_property
    def slices(self) -> Mapping[str, Slice]:
        """EndpointSlices by ``namespace/name``, sorted."""
        return _Objects("endpointslices", _sorted(self.items("endpointslices")), parse_slice, namespaced=True)

    @cached_property
    def slices_by_service(self) -> Mapping[str | None, tuple[str, ...]]:
        """Keys of slices by the Service (``namespace/name``) that their label names; None: they name none."""
        found: dict[str | None, list[str]] = {}
        for item in _sorted(self.items("endpointslices")):
            meta = item["metadata"]
            namespace, owner = meta.get("namespace", "default"), (meta.get("labels") or {}).get(SERVICE_LABEL)
            found.setdefault(f"{namespace}/{owner}" if owner else None, []).append(f"{namespace}/{meta['name']}")
        return {service: tuple(names) for service, names in found.items()}

    @cached_property
    def endpoints(self) -> Mapping[str | None, tuple[Endpoint, ...]]:
        """Endpoints by Service (``namespace/name``); those of slices that name no Service under None."""
        return _Endpoints(self)

    @cached_property
    def services_of_pods(self) -> Mapping[str, tuple[str, ...]]:
        """Services by the pods that their EndpointSlices name, both as ``namespace/name``."""
        found: dict[str, dict[str, None]] = {}
        for service, several in self.endpoints.items():
            for endpoint in several:
                if service and endpoint.pod and self.is_pod(endpoint):
                    found.setdefault(endpoint.pod, {})[service] = None
        return {pod: tuple(sorted(names)) for pod, names in found.items()}

    def is_pod(self, endpoint: Endpoint) -> bool:
        """Whether the pod that an endpoint names is there, and not another one of the same name."""
        item = self.pods.raw.get(endpoint.pod or "")
        return item is not None and endpoint.pod_uid in (None, "", item["metadata"].get("uid"))

    @cached_property
    def pods_by_ip(self) -> Mapping[str, tuple[PodValue, ...]]:
        """Pods that hold an address now: finished ones left theirs behind and are not here."""
        found: dict[str, list[PodValue]] = {}
        for pod in self.pods.values():
            for ip in () if pod.finished else pod.ips:
                found.setdefault(ip, []).append(pod)
        return {ip: tuple(several) for ip, several in found.items()}

    @cached_property
    def service_ranges(self) -> tuple[str, ...]:
        """Prefixes from which cluster IPs are allotted (ServiceCIDR, KEP-1880)."""
        try:
            specs = [item.get("spec") or {} for item in self.items("servicecidrs")]
            return tuple(str(ipaddress.ip_network(cidr)) for spec in specs for cidr in spec.get("cidrs") or ())
        except (AttributeError, TypeError, ValueError) as error:
            raise FactBroken(
                "servicecidrs.json", "the Kubernetes API", f"holds a range that is none ({error})"
            ) from None


def _sorted(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: (str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])))


def pick(objects: Mapping[str, T], key: str, what: str) -> T:
    """The object of that key (``name`` alone: in the namespace ``default``). Raises NotFound with the nearest keys."""
    full = key if key in objects or "/" in key else f"default/{key}"
    if full in objects:
        return objects[full]
    near = difflib.get_close_matches(full, list(objects), n=3, cutoff=0.5)
    hint = f"Near: {', '.join(near)}" if near else f"There are {len(objects)}; list them first"
    raise NotFound(printable(f"no {what} {key!r}. {hint}"))
