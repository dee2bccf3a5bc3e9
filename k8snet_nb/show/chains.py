"""A browser of a node's chains: pick a table and a chain, read it as its own tool lists it, follow its jumps."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..render import printable
from .choice import Item
from .live import LivePane, alert, pane, told_error
from .select import ItemSelector
from .view import rendered

if TYPE_CHECKING:
    from ..cluster import Node
    from ..explain.chains import ChainView

__all__ = ["ChainBrowser", "chain_browser"]

_FIRST = ("iptables nat KUBE-SERVICES", "nft ip kube-proxy services")
_NOWHERE = "no further chain"


def _items(node: Node) -> list[Item]:
    frame = node.chains()
    columns = [frame[name].tolist() for name in ("key", "tool", "table", "kind", "size", "about")]
    units = {"chain": "rules"}
    return [
        Item(key, f"{tool} {table}", f"{kind}, {size} {units.get(kind, 'elements')}  {about}".rstrip())
        for key, tool, table, kind, size, about in zip(*columns, strict=True)
    ]


class ChainBrowser(LivePane):
    """``.selector`` chooses the chain (its filter also finds Services), ``.rules`` narrows what is listed of it.

    ``.follow`` lists where the chain's rules lead; choosing one goes there. ``.layout`` is the widget, ``.text`` what
    is shown now, ``.value`` the chain's listing as a value.
    """

    def __init__(self, node: Node, chain: str | None = None) -> None:
        self._node, self._lock, self._drawing = node, RLock(), False
        items = _items(node)
        first = chain or self._busiest(items)
        self.selector: ItemSelector[ChainView] = ItemSelector(
            lambda: items, self._open, "chain", self._key(items, first), group="table"
        )
        wide: dict[str, Any] = {
            "style": {"description_width": "6.5em"},
            "layout": widgets.Layout(width="auto", max_width="46em"),
        }
        self.rules = widgets.Text(
            description="Rules", placeholder="only rules that hold this text …", continuous_update=False, **wide
        )
        self.follow = widgets.Dropdown(description="Leads to", **wide)
        self._pane = widgets.HTML()
        self.layout = widgets.VBox([self.selector.layout, self.rules, self.follow, self._pane])
        self.selector.on_change(lambda _value: self._draw())
        self.rules.observe(lambda _change: self._draw(), names="value")
        self.follow.observe(self._on_follow, names="value")
        self._draw()

    @staticmethod
    def _busiest(items: list[Item]) -> str | None:
        """Where Services are looked up on this node: of several such places, that with the most entries."""

        def entries(item: Item) -> int:
            return int(item.detail.split(", ")[1].split(" ")[0])

        known = [item for item in items if item.key in _FIRST]
        return max(known, key=entries).key if known else None

    @staticmethod
    def _key(items: list[Item], wanted: str | None) -> str | None:
        """A key from a key or a bare name."""
        keys = [item.key for item in items]
        named = [key for key in keys if key.rpartition(" ")[2] == wanted]
        return wanted if wanted in keys or not named else named[0]

    def _open(self, key: str) -> ChainView:
        return self._node.chain(key, holding=self.rules.value)

    @property
    def value(self) -> ChainView | None:
        """The listing of what is chosen now."""
        return self.selector.value

    def _on_follow(self, change: dict[str, Any]) -> None:
        if self._drawing or not change["new"]:
            return
        table = (self.selector.key or "").rpartition(" ")[0]
        self.rules.value = ""
        self.selector.namespace.value, self.selector.filter.value = "", ""
        self.selector.choose(f"{table} {change['new']}")

    def _draw(self) -> None:
        with self._lock:
            view: ChainView | None = None
            try:
                view = self.value
                self._text, html = rendered(view) if view is not None else (self.selector.state, "")
            except Exception as error:  # an exception in a widget's callback would be invisible
                self._text = told_error(error)
                html = alert(self._text)
            names = [jump.chain for jump in view.jumps] if view else []
            self._drawing = True
            try:
                self.follow.options = [(_NOWHERE if not names else "…", ""), *((printable(n), n) for n in names)]
                self.follow.value = ""
                self.follow.disabled = not names
            finally:
                self._drawing = False
            self._pane.value = pane(html)
            self._html = html


def chain_browser(node: Node, chain: str | None = None) -> ChainBrowser:
    """Browse the chains, maps and sets of a node. ``chain``: a name, or a key of ``node.chains()``, to begin with.

    Raises FactMissing when none of the node's rules were collected.
    """
    return ChainBrowser(node, chain)
