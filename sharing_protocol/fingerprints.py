"""A forum's fingerprint for people: 64 hex digits, or 24 words to read aloud.

The words are BIP-39's English ones: 256 bits and 8 bits of checksum, 11 bits a word. No two words begin with the same
four letters, so four letters of a word are enough; a word that is not in the list is noticed at once, and of other
slips (two words swapped, one mistaken for another) 255 of 256. A fingerprint is no secret: these words open no wallet.

Source: BIP-39, https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki.
"""

from __future__ import annotations

import difflib
import re
from functools import cache

from mnemonic import Mnemonic

from sharing_protocol.errors import Malformed

WORDS = 24
_HEX = re.compile("[0-9a-f]{64}")
_BETWEEN_HEX = re.compile(r"[\s:]+")
_BETWEEN_WORDS = re.compile(r"[\s,.;-]+")
_SHORTEST = 4
"""Letters that tell a word of the list from every other."""
_LONGEST_TEXT = 1000


def words_of(fingerprint: str) -> str:
    """The 24 words, one space apart, of a fingerprint in hex."""
    return _english().to_mnemonic(bytes.fromhex(fingerprint))


def parse_fingerprint(text: str) -> str:
    """Read what a person typed: hex digits in any case and grouping, or the words or their beginnings.

    Returns:
        64 lower-case hex digits.

    Raises:
        Malformed: `bad_fingerprint`, with what to look at.
    """
    if len(text) > _LONGEST_TEXT:
        raise _bad("it is too long")
    digits = _BETWEEN_HEX.sub("", text).lower()
    if _HEX.fullmatch(digits):
        return digits
    typed = [word for word in _BETWEEN_WORDS.split(text.lower()) if word]
    if len(typed) == 1:
        raise _bad("it is 64 hexadecimal digits, or 24 words")
    words = [_word(word, number) for number, word in enumerate(typed, 1)]
    if len(words) != WORDS:
        raise _bad(f"{len(words)} words, and there are {WORDS}")
    try:
        return bytes(_english().to_entropy(words)).hex()
    except ValueError as error:
        raise _bad("these words do not belong together: one is another, or two are swapped") from error


def _word(typed: str, number: int) -> str:
    known = _english().wordlist
    if typed in _words():
        return typed
    found = [word for word in known if len(typed) >= _SHORTEST and word.startswith(typed)]
    if len(found) == 1:
        return found[0]
    close = difflib.get_close_matches(typed, known, 1)
    perhaps = f"; perhaps {close[0]!r}" if close else ""
    raise _bad(f"word {number}, {typed[:20]!r}, is not in the list{perhaps}")


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")


@cache
def _words() -> frozenset[str]:
    return frozenset(_english().wordlist)


def _bad(reason: str) -> Malformed:
    return Malformed("bad_fingerprint", f"not a forum's fingerprint: {reason}")
