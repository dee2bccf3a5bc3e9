"""CoreDNS's Corefile as values: server blocks, their zones, their plugins with arguments and nested blocks.

Source: coredns.io/manual/configuration. The grammar is the Caddyfile's: words parted by blanks, ``"quoted words"``,
comments from a ``#`` that begins a word, a block from a ``{`` that ends a line, snippets ``(name) { ... }`` and
``import``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import FactBroken

__all__ = ["Corefile", "Directive", "ServerBlock", "Zone", "parse_corefile"]

_PORTS = {"dns": 53, "tls": 853, "https": 443, "https3": 443, "grpc": 443, "quic": 853}
_DEPTH = 20
"""Snippets inside snippets: more than this is a circle."""


@dataclass(frozen=True, slots=True)
class Directive:
    """A plugin (or an option inside its block): its name, its arguments, its own block, the line it stands on."""

    name: str
    args: tuple[str, ...]
    block: tuple[Directive, ...]
    line: int

    def options(self, name: str) -> tuple[Directive, ...]:
        """The lines of its block that begin with a word."""
        return tuple(option for option in self.block if option.name == name)

    def __str__(self) -> str:
        return " ".join((self.name, *self.args))


@dataclass(frozen=True, slots=True)
class Zone:
    """What a server block answers for: ``dns://cluster.local:53``. ``name`` ends with a dot (``.`` is every name)."""

    name: str
    port: int
    scheme: str = "dns"


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """The names it answers for and its plugins, snippets already put in their places."""

    zones: tuple[Zone, ...]
    plugins: tuple[Directive, ...]
    line: int

    def plugin(self, name: str) -> Directive | None:
        """The first plugin of that name."""
        return next((plugin for plugin in self.plugins if plugin.name == name), None)


@dataclass(frozen=True, slots=True)
class Corefile:
    """A whole Corefile. ``unread`` are imports of other files: what they add is not known."""

    servers: tuple[ServerBlock, ...]
    unread: tuple[Directive, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    line: int
    quoted: bool = False


class _Bad(Exception):
    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")


def _words(text: str) -> Iterator[_Word]:
    at, line = 0, 1
    while at < len(text):
        char = text[at]
        if char.isspace() or char == "\ufeff":
            line += char == "\n"
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char == '"':
            word, end = _quoted(text, at + 1, line)
            yield _Word(word, line, quoted=True)
            line += text.count("\n", at, end)
            at = end
        else:
            end = at
            while end < len(text) and not text[end].isspace():
                end += 1
            yield _Word(text[at:end], line)
            at = end


def _quoted(text: str, at: int, line: int) -> tuple[str, int]:
    r"""The word up to the closing quote, and where it ends; ``\"`` is a quote, any other backslash stays."""
    found: list[str] = []
    while at < len(text):
        if text.startswith('\\"', at):
            found.append('"')
            at += 2
        elif text[at] == '"':
            return "".join(found), at + 1
        else:
            found.append(text[at])
            at += 1
    raise _Bad(line, "a quote is not closed")


_VARIABLE = re.compile(r"\{[$%][^{}]*\}")


def _check_key(word: _Word) -> None:
    """Braces stand alone: in a zone they are environment variables (``{$ZONE}``) or astray."""
    if not word.quoted and re.search(r"[{}]", _VARIABLE.sub("", word.text)):
        raise _Bad(word.line, f"stray braces in {word.text}")


def _check_stray(word: _Word) -> None:
    """Braces that open or close a block are words of their own."""
    if not word.quoted and len(word.text) > 1 and not word.text.strip("{}"):
        raise _Bad(word.line, f"stray braces {word.text}")


def _is(word: _Word, text: str) -> bool:
    return word.text == text and not word.quoted


class _Parser:
    def __init__(self, text: str) -> None:
        self.words, self.at = list(_words(text)), 0
        self.snippets: dict[str, tuple[Directive, ...]] = {}
        self.unread: list[Directive] = []

    @property
    def word(self) -> _Word | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def servers(self) -> list[ServerBlock]:
        found: list[ServerBlock] = []
        while (word := self.word) is not None:
            keys = self._keys()
            if len(keys) == 1 and keys[0].startswith("(") and keys[0].endswith(")"):
                self.snippets[keys[0][1:-1]] = self._block(word)
            elif keys[:1] == ["import"] and len(keys) > 1:
                self.unread.append(Directive("import", tuple(keys[1:]), (), word.line))
            else:
                opened = self.word is not None and _is(self.word, "{")
                body = self._block(word) if opened else self._directives(word, closed=False)
                found.append(ServerBlock(tuple(_zone(key, word.line) for key in keys), self._put(body, 0), word.line))
        return found

    def _keys(self) -> list[str]:
        """The keys of a server block: one line, and further lines where a comma ends one."""
        keys: list[str] = []
        line, more = self.words[self.at].line, False
        while (word := self.word) is not None and not _is(word, "{") and (word.line == line or more):
            if _is(word, "}"):
                raise _Bad(word.line, "a } without its {")
            _check_key(word)
            more = word.text.endswith(",")
            keys += [part for part in word.text.split(",") if part]
            line = word.line
            self.at += 1
        if not keys:
            raise _Bad(line, "a block without a zone")
        return keys

    def _block(self, owner: _Word) -> tuple[Directive, ...]:
        if self.word is None or not _is(self.word, "{"):
            raise _Bad(owner.line, f"{owner.text} has no block")
        self.at += 1
        return self._directives(owner, closed=True)

    def _directives(self, owner: _Word, *, closed: bool) -> tuple[Directive, ...]:
        found: list[Directive] = []
        while (word := self.word) is not None:
            if _is(word, "}"):
                if not closed:
                    raise _Bad(word.line, "a } without its {")
                self.at += 1
                return tuple(found)
            if _is(word, "{"):
                raise _Bad(word.line, "a { without a word before it on its line")
            found.append(self._directive())
        if closed:
            raise _Bad(owner.line, f"the block of {owner.text} is not closed")
        return tuple(found)

    def _directive(self) -> Directive:
        name = self.words[self.at]
        _check_stray(name)
        self.at += 1
        args: list[str] = []
        while (word := self.word) is not None and word.line == name.line and not _is(word, "}"):
            if _is(word, "{"):
                return Directive(name.text, tuple(args), self._block(name), name.line)
            _check_stray(word)
            args.append(word.text)
            self.at += 1
        return Directive(name.text, tuple(args), (), name.line)

    def _put(self, body: tuple[Directive, ...], depth: int) -> tuple[Directive, ...]:
        """Snippets in the place of their imports; an import of a file stays and is noted."""
        found: list[Directive] = []
        for directive in body:
            snippet = self.snippets.get(directive.args[0]) if directive.name == "import" and directive.args else None
            if snippet is not None:
                if depth >= _DEPTH:
                    raise _Bad(directive.line, f"import {directive.args[0]} goes round in a circle")
                found += self._put(snippet, depth + 1)
                continue
            if directive.name == "import":
                self.unread.append(directive)
            found.append(replace(directive, block=self._put(directive.block, depth)) if directive.block else directive)
        return tuple(found)


def _zone(key: str, line: int) -> Zone:
    scheme, mark, rest = key.partition("://")
    scheme, rest = (scheme.lower(), rest) if mark else ("dns", key)
    if scheme not in _PORTS:
        raise _Bad(line, f"{key}: the scheme {scheme} is none of {', '.join(_PORTS)}")
    name, colon, port = rest.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = rest, str(_PORTS[scheme])
    if int(port) > 65535:
        raise _Bad(line, f"{key}: {port} is no port")
    return Zone((name.lower().rstrip(".") or "") + ".", int(port), scheme)


def parse_corefile(text: str, where: str = "configmap kube-system/coredns") -> Corefile:
    """Read a Corefile. Raises FactBroken with the line number where CoreDNS would not start with it.

    Environment variables (``{$NAME}``) stay as they are written.
    """
    try:
        parser = _Parser(text)
        servers = parser.servers()
    except _Bad as bad:
        raise FactBroken("Corefile", where, str(bad), "CoreDNS does not start with such a file") from None
    return Corefile(tuple(servers), tuple(parser.unread), tuple(text.splitlines()))
