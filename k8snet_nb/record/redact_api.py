"""The API's objects in a redacted recording: the fields of :mod:`.api_fields`, renamed; the rest is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .addresses import AddressMap
from .api_fields import FIELDS
from .pseudonyms import Pseudonyms

__all__ = ["ApiRedaction"]

Leaf = Callable[[Any], Any]
_LABELS = {
    "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
    "kubernetes.io/role",
    "endpointslice.kubernetes.io/managed-by", "service.kubernetes.io/headless", "k8s-app", "type",
}  # fmt: skip
_NAMED_LABELS = {
    "kubernetes.io/hostname", "kubernetes.io/metadata.name", "kubernetes.io/service-name",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
}  # fmt: skip
_KEPT_VALUES = {"kube-dns", "coredns", "kube-proxy", "node-local-dns", "virtual-kubelet"}
_NOTES = {"kubernetes.io/config.hash", "kubernetes.io/config.mirror"}


class ApiRedaction:
    """Redacts items of the API's Lists."""

    def __init__(
        self, names: Pseudonyms, addresses: AddressMap, text: Callable[[str], str], keep_labels: frozenset[str]
    ) -> None:
        self.names, self.addresses, self.prose = names, addresses, text
        self._kept = keep_labels | _LABELS
        self.selected: set[str] = set()
        """Keys of labels that a selector of a Service or policy names: they are renamed, not left out."""
        self._ways: dict[str, Leaf] = {
            "keep": lambda value: value if isinstance(value, (str, int, float, bool)) else None,
            "name": self._name,
            "mark": self._mark,
            "domain": self._domain,
            "address": lambda value: addresses.text(str(value)),
            "labels": self._label_map,
            "notes": self._notes,
            "selector": self._label_selector,
            "data": self._data,
        }

    def item(self, resource: str, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """One object under the new names; None for one that is left out as a whole."""
        name = (item.get("metadata") or {}).get("name")
        if resource == "configmaps" and name not in ("coredns", "kube-proxy"):
            return None
        told = self._walk(FIELDS[resource], item)
        return told if isinstance(told, dict) else None

    def _walk(self, schema: Any, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(schema, dict):
            if not isinstance(value, Mapping):
                return None
            return {key: self._walk(schema[key], value[key]) for key in value if key in schema}
        if isinstance(schema, list):
            return [self._walk(schema[0], one) for one in value] if isinstance(value, list) else None
        return self._ways[schema](value)

    def _name(self, value: Any) -> str:
        return self.names.name(str(value))

    def _label_map(self, labels: Any) -> dict[str, str]:
        found = {}
        for key, value in (labels or {}).items():
            if key in self._kept or key.startswith("node-role.kubernetes.io/"):
                found[key] = value if key in _LABELS or value in _KEPT_VALUES else self.names.name(str(value), "value")
                if key == "k8s-app" and value not in _KEPT_VALUES:
                    found[key] = self.names.name(str(value), "value")
            elif key in _NAMED_LABELS:
                found[key] = self._name(value)
            elif key in self.selected:
                found[self.label_key(key)] = self.names.name(str(value), "value")
        return found

    def label_key(self, key: str) -> str:
        """The key of a label outside the list, under its new name."""
        return key if key in self._kept or key in _NAMED_LABELS else f"label-{self.names.digest(f'label {key}', 6)}"

    def _label_selector(self, selector: Any) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if selector.get("matchLabels"):
            told["matchLabels"] = self._label_map(selector["matchLabels"])
        if selector.get("matchExpressions"):
            told["matchExpressions"] = [
                {"key": self.label_key(str(one.get("key"))), "operator": one.get("operator"),
                 "values": [self.names.name(str(v), "value") for v in one.get("values") or ()]}
                for one in selector["matchExpressions"]
            ]  # fmt: skip
        return told

    def _notes(self, notes: Any) -> dict[str, str]:
        return {key: self.names.marks(str(value)) for key, value in (notes or {}).items() if key in _NOTES}

    def _domain(self, value: Any) -> str:
        return self.prose(str(value)) if _is_address(value) else self.names.domain(str(value))

    def _mark(self, value: Any) -> str:
        head, separator, rest = str(value).rpartition("://")
        return head + separator + self.names.marks(rest)

    def _data(self, data: Any) -> dict[str, str]:
        return {
            key: self.prose(str(value)) for key, value in (data or {}).items() if key in ("Corefile", "config.conf")
        }


def _is_address(value: Any) -> bool:
    return str(value).replace(".", "").isdigit() or ":" in str(value)
