r"""One rule of ``iptables-save``: its words, matches and target.

The quoting is that of iptables-save itself (xshared and ``xtables_save_string``): a word that holds anything but
letters, digits, ``-`` and ``_`` stands in double quotes, and in them ``"``, ``\`` and ``'`` follow a backslash.
Nothing else is quoted, so the comment ``-j`` stands there bare: which words are values is known from the option only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

__all__ = ["BadRule", "Match", "Option", "Rule", "is_network", "parse_rule", "quote", "split_words"]

_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COUNTERS = re.compile(r"\[(\d+):(\d+)\] ")
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_FLAGS = frozenset(
    """-f --rcheck --update --remove --reap --rttl --rsource --rdest --random --random-fully --persistent --syn
    --notrack --save-mark --restore-mark --loose --validmark --accept-local --invert --physdev-is-in --physdev-is-out
    --physdev-is-bridged --limit-iface-in --limit-iface-out""".split()
)
"""Options that never have a value."""
_VALUES = {"--match-set": 2, "--tcp-flags": 2, "--add-set": 2, "--del-set": 2, "--map-set": 2} | dict.fromkeys(
    """-A -j -g -m -s -d -p -i -o --comment --log-prefix --nflog-prefix --string --hex-string --dport --sport --dports
    --sports --ports --mark --ctstate --ctstatus --ctdir --ctproto --ctorigdst --ctorigsrc --ctorigdstport --state
    --mode --probability --every --packet --name --seconds --hitcount --mask --dst-type --src-type --to-destination
    --to-source --to-ports --set-xmark --set-mark --reject-with --nfacct-name --src-range --dst-range""".split(),
    1,
)
"""How many words follow an option, whatever they look like. Of other options: the words up to the next option."""
_SHORT = {"--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--protocol": "-p", "--proto": "-p"}
_SHORT |= {"--in-interface": "-i", "--out-interface": "-o", "--fragment": "-f", "--jump": "-j", "--goto": "-g"}
_SHORT |= {"--match": "-m", "--append": "-A", "--destination-port": "--dport", "--source-port": "--sport"}
_PORT = re.compile(r"\d{1,5}|\d{0,5}:\d{0,5}")
_PORTS = frozenset(["--dport", "--sport", "--dports", "--sports", "--ports"])
_IP_OPTIONS = frozenset(["-s", "-d", "-p", "-i", "-o", "-f"])


class BadRule(ValueError):
    """The line is no rule; the message says why, without a line number."""


class Option(NamedTuple):
    """One option with its values: ``! -s 10.244.0.0/16`` is name ``-s``, values ``("10.244.0.0/16",)``, negated."""

    name: str
    values: tuple[str, ...] = ()
    negated: bool = False

    @property
    def value(self) -> str:
        """The first value; empty when the option has none."""
        return self.values[0] if self.values else ""


class Match(NamedTuple):
    """One match: the module of ``-m`` and its options; module ``ip`` for ``-s -d -p -i -o -f``, which need no -m."""

    module: str
    options: tuple[Option, ...] = ()

    def option(self, name: str) -> Option | None:
        """The option of that name, or None."""
        return next((option for option in self.options if option.name == name), None)


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``-A`` line. ``target`` None: the rule only counts. ``number``: its line in the save, from 1.

    ``problem`` is set when the line could not be read as a rule: nothing else of it is then known.
    """

    number: int
    line: str
    chain: str
    matches: tuple[Match, ...] = ()
    target: str | None = None
    goto: bool = False
    target_options: tuple[Option, ...] = ()
    counters: tuple[int, int] | None = None
    problem: str | None = None

    @property
    def comment(self) -> str:
        """The text of its comment (several joined by a space), empty without one."""
        return " ".join(o.value for m in self.matches if m.module == "comment" for o in m.options)

    @property
    def text(self) -> str:
        """The line without its counters, as ``iptables-save`` without ``-c`` prints it."""
        return _COUNTERS.sub("", self.line, count=1) if self.counters else self.line

    def target_option(self, name: str) -> Option | None:
        """The target's option of that name, or None."""
        return next((option for option in self.target_options if option.name == name), None)


def quote(word: str) -> str:
    """A word as iptables-save prints it."""
    if _BARE.fullmatch(word):
        return word
    return '"' + re.sub(r"""(["'\\])""", r"\\\1", word) + '"'


def split_words(text: str) -> list[tuple[str, bool]]:
    """The words of a line with their quotes taken away, and whether any part stood in quotes.

    Raises BadRule when a quote stays open.
    """
    words: list[tuple[str, bool]] = []
    if "\\" not in text and _apart(parts := text.split('"')):
        for i, part in enumerate(parts):
            words += [(part, True)] if i & 1 else [(word, False) for word in part.split()]
        return words
    end = 0
    for found in _WORD.finditer(text):
        if text[end : found.start()].strip():
            break
        word, end = found.group(), found.end()
        words.append((word, False) if '"' not in word else (_QUOTED.sub(_unescape, word), True))
    if text[end:].strip():
        raise BadRule("a quote is opened and never closed")
    return words


def _apart(parts: list[str]) -> bool:
    """Of a line cut at its quotes: every quoted part is a word of its own, and the last quote is closed."""
    bare = parts[::2]
    return len(parts) & 1 == 1 and all(p[:1] in " " for p in bare[1:]) and all(p[-1:] in " " for p in bare[:-1])


def _unescape(quoted: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", quoted.group(1), flags=re.DOTALL)


class _Words:
    """Reads options off a list of words."""

    def __init__(self, words: list[tuple[str, bool]]) -> None:
        self._words, self._at = words, 0

    def option(self) -> Option | None:
        """The next option with its values and ``!``; None at the end."""
        negated = self._skip("!")
        if self._at == len(self._words):
            if negated:
                raise BadRule("it ends after `!`")
            return None
        name, quoted = self._words[self._at]
        if quoted or name[:1] != "-":
            raise BadRule(f"`{name}` stands where an option was expected")
        self._at += 1
        name = _SHORT.get(name, name)
        negated = self._skip("!") or negated
        return Option(name, self._values(name), negated)

    def _skip(self, word: str) -> bool:
        found = self._at < len(self._words) and self._words[self._at] == (word, False)
        self._at += found
        return found

    def _values(self, name: str) -> tuple[str, ...]:
        start = self._at
        wanted = _VALUES.get(name, 0)
        self._at = min(start + wanted, len(self._words))
        if self._at - start < wanted:
            raise BadRule(f"`{name}` has no value")
        if wanted or name in _FLAGS:
            return tuple(word for word, _ in self._words[start : self._at])
        while not self._at_option():
            self._at += 1
        return tuple(word for word, _ in self._words[start : self._at])

    def _at_option(self) -> bool:
        if self._at == len(self._words):
            return True
        word, quoted = self._words[self._at]
        return not quoted and (word == "!" or word.startswith("-"))


def parse_rule(number: int, line: str) -> Rule:
    """Read one rule. Raises BadRule when the line is none."""
    counted = _COUNTERS.match(line)
    words = _Words(split_words(line[counted.end() :] if counted else line))
    first = words.option()
    if first is None or first.name != "-A" or len(first.values) != 1:
        raise BadRule("it does not begin with `-A CHAIN`")
    matches: list[tuple[str, list[Option]]] = []
    target: Option | None = None
    target_options: list[Option] = []
    while option := words.option():
        if option.name in ("-j", "-g") and target is None:
            target = option
        elif target is not None:
            target_options.append(option)
        elif option.name == "-m":
            matches.append((option.value, []))
        else:
            _add(matches, option)
    return Rule(
        number,
        line,
        first.value,
        tuple(Match(module, tuple(options)) for module, options in matches),
        target.value if target else None,
        target is not None and target.name == "-g",
        tuple(target_options),
        (int(counted[1]), int(counted[2])) if counted else None,
    )


@lru_cache(maxsize=65536)
def is_network(text: str) -> bool:
    """Whether it is an address or a prefix, as ``-s`` and ``-d`` have it."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check(option: Option) -> None:
    """Addresses and ports, which every evaluator reads as numbers: iptables-save never prints names for them."""
    if option.name in ("-s", "-d") and not is_network(option.value):
        raise BadRule(f"`{option.name} {option.value}` is no address")
    if option.name in _PORTS and not all(map(_PORT.fullmatch, option.value.split(","))):
        raise BadRule(f"`{option.name} {option.value}` is no port")


def _add(matches: list[tuple[str, list[Option]]], option: Option) -> None:
    """Put an option with its module; ``-p tcp --dport 80`` without ``-m tcp`` is the protocol's own module."""
    _check(option)
    if option.name in _IP_OPTIONS:
        if not matches or matches[0][0] != "ip":
            matches.insert(0, ("ip", []))
        matches[0][1].append(option)
        return
    if not matches or matches[-1][0] == "ip":
        protocol = next((o.value for o in matches[0][1] if o.name == "-p"), "") if matches else ""
        if not protocol:
            raise BadRule(f"`{option.name}` belongs to no match")
        matches.append((protocol, []))
    matches[-1][1].append(option)
