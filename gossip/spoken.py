"""A site's fingerprint as words, to be read to somebody by telephone.

The first 88 bits of the site's name, eleven bits a word, from the English list of BIP-39: 2,048
common words, no two of which begin with the same four letters."""

from functools import cache
from typing import Final

from gossip.identifiers import SiteId

WORDS: Final = 8
_BITS: Final = 11


def spoken(site: SiteId) -> str:
    """The words of a site, in order, separated by spaces.

    >>> spoken(SiteId(bytes(32)))
    'abandon abandon abandon abandon abandon abandon abandon abandon'
    """
    words = _list()
    number = int.from_bytes(site[: WORDS * _BITS // 8], "big")
    shifts = range((WORDS - 1) * _BITS, -1, -_BITS)
    return " ".join(words[(number >> shift) & ((1 << _BITS) - 1)] for shift in shifts)


@cache
def _list() -> tuple[str, ...]:
    from mnemonic import Mnemonic  # a tenth of a second, which most commands need not spend

    return tuple(Mnemonic("english").wordlist)
