"""A network as an expression over the texts that are addresses in it.

What is an address is what Python's `ipaddress` takes, which the reference evaluator reads them with.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from member_client.pattern_sql.regex_tree import (
    Characters,
    Choice,
    Edge,
    Repeat,
    Sequence,
    Tree,
    characters,
    complement,
    literal,
)

_GROUPS = 8
_DOT, _COLON = literal("."), literal(":")
_HEX_DIGITS = "0123456789abcdef"
# `fe80::1%eth0`: what follows the sign says on which link, and takes no part in comparing
_ZONE = Repeat(Sequence((literal("%"), Repeat(Characters(complement(((37, 37), (47, 47)))), 1, None))), 0, 1)


def tree_of(network: IPv4Network | IPv6Network) -> Tree:
    """A tree that is found in a text exactly if the text is an address of that version in the network."""
    if isinstance(network, IPv4Network):
        body: Tree = _dotted(int(network.network_address), network.prefixlen)
    else:
        body = Sequence((_Hextets(int(network.network_address), network.prefixlen).tree(), _ZONE))
    return Sequence((Edge.TEXT_START, body, Edge.TEXT_END))


def _dotted(address: int, fixed: int) -> Tree:
    """Four numbers from 0 to 255, of whose 32 bits the first `fixed` are those of the address."""
    parts: list[Tree] = []
    for position in range(4):
        bits = min(max(fixed - 8 * position, 0), 8)
        first = (address >> (24 - 8 * position)) & 0xFF & (0xFF << (8 - bits))
        parts += [_number(first, first + (1 << (8 - bits)) - 1), _DOT]
    return Sequence(tuple(parts[:-1]))


def _number(first: int, last: int) -> Tree:
    """A number in decimal digits, without leading zeros."""
    by_tens: dict[int, list[str]] = {}
    for number in range(first, last + 1):
        by_tens.setdefault(number // 10, []).append(str(number % 10))
    by_units: dict[tuple[str, ...], list[str]] = {}  # tens with the same last digits, such as 1 to 24 of 0 to 255
    for tens, units in by_tens.items():
        by_units.setdefault(tuple(units), []).append(str(tens) if tens else "")
    forms: list[Tree] = [Sequence((_one_of(tens), characters(units))) for units, tens in by_units.items()]
    return forms[0] if len(forms) == 1 else Choice(tuple(forms))


def _one_of(texts: list[str]) -> Tree:
    """One of some texts of digits; those that differ in the last digit only are written together."""
    by_start: dict[str, list[str]] = {}
    for text in texts:
        if text:
            by_start.setdefault(text[:-1], []).append(text[-1])
    forms = [Sequence((literal(start), characters(ends))) for start, ends in by_start.items()]
    forms += [literal("")] if "" in texts else []
    return forms[0] if len(forms) == 1 else Choice(tuple(forms))


class _Hextets:
    """The texts of one IPv6 network: eight groups, a run of zero groups shortened to `::`, an IPv4 tail."""

    def __init__(self, address: int, fixed: int) -> None:
        self._address = address
        self._fixed = fixed

    def tree(self) -> Tree:
        forms: list[Tree] = []
        for tail in (False, True):  # whether the last two groups are written as an IPv4 address
            count = _GROUPS - 2 * tail
            forms.append(self._written(list(range(count)), tail))
            for before in range(count):
                for after in range(count - before):
                    gap = range(before, count - after)
                    if all(self._may_be_zero(position) for position in gap):
                        start = self._written(list(range(before)), False)
                        end = self._written(list(range(count - after, count)), tail)
                        forms.append(Sequence((start, literal("::"), end)))
        return Choice(tuple(forms))

    def _written(self, positions: list[int], tail: bool) -> Tree:
        parts: list[Tree] = [self._group(position) for position in positions]
        if tail:
            parts.append(_dotted(self._address & 0xFFFF_FFFF, max(self._fixed - 96, 0)))
        between = [item for part in parts for item in (_COLON, part)]
        return Sequence(tuple(between[1:]))

    def _bits(self, position: int) -> tuple[int, int]:
        """The value of a group, and how many of its bits are fixed."""
        return (self._address >> (112 - 16 * position)) & 0xFFFF, min(max(self._fixed - 16 * position, 0), 16)

    def _may_be_zero(self, position: int) -> bool:
        value, bits = self._bits(position)
        return value >> (16 - bits) == 0

    def _group(self, position: int) -> Tree:
        """One to four hexadecimal digits; those left out at the start are zeros."""
        value, bits = self._bits(position)
        digits = [self._digit(value >> (12 - 4 * place) & 0xF, min(max(bits - 4 * place, 0), 4)) for place in range(4)]
        if bits == 0:
            return Repeat(digits[0], 1, 4)
        forms = [Sequence(tuple(digits))]
        for left_out in range(1, 4):
            if not all(_has_zero(digit) for digit in digits[:left_out]):
                break
            forms.append(Sequence(tuple(digits[left_out:])))
        return forms[0] if len(forms) == 1 else Choice(tuple(forms))

    def _digit(self, value: int, bits: int) -> Characters:
        first = value & (0xF << (4 - bits))
        allowed = _HEX_DIGITS[first : first + (1 << (4 - bits))]
        return characters(set(allowed + allowed.upper()))


def _has_zero(digit: Characters) -> bool:
    return any(low <= ord("0") <= high for low, high in digit.ranges)
