"""Whose cosignatures count, and which of them: keys in force, replaced ones, disowned ones.

Responsible for: what a line under a key that its witness no longer uses is still worth.
Must not know: logs, heads, or where anything is stored.

A replaced key vouches for what it signed before it was replaced, by the time that the line states.
Whoever has a stolen key can write any time into a line, so a disowned key vouches only for what was
already held when its owner disowned it, and it accuses nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.log.fork_proofs import CosignaturesThatDisagree
from ledger.log.identity import FOREVER_US, WitnessKey
from ledger.log.mirror_errors import ForkOfStranger, WitnessKeyEnded
from ledger.log.notes import (
    KeyType,
    NoteSignature,
    VerifierKey,
    cosignatures_of,
    note_verify,
    stated_in,
)

_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A key of a witness under the name with which it signs; see `WitnessKey`."""

    key: VerifierKey
    until_us: int = FOREVER_US
    is_disowned: bool = False

    def vouched(self, time_s: int | None) -> bool:
        """Whether a cosignature that states this unix time was made while the key counted."""
        return (time_s or 0) * _US_PER_S < self.until_us

    def has_signed(self, line: bytes) -> bool:
        """Whether a line says that it is this key's; whoever asks has verified it before."""
        name, key_id, _ = stated_in(line)
        return (name, key_id) == (self.key.name, self.key.key_id)


def known_under(name: str, keys: Iterable[WitnessKey]) -> tuple[KnownWitness, ...]:
    """A log's witness keys under the name with which its site cosigns, in the same order."""
    return tuple(
        KnownWitness(
            VerifierKey(name, KeyType.COSIGNATURE_V1, key.public_key), key.until_us, key.is_disowned
        )
        for key in keys
    )


class KnownWitnesses:
    """All keys of all witnesses that this site knows."""

    def __init__(self, keys: Iterable[KnownWitness] = ()) -> None:
        cosigning = (known for known in keys if known.key.type is KeyType.COSIGNATURE_V1)
        self._known = {known.key: known for known in cosigning}
        self.accusable = tuple(key for key, known in self._known.items() if not known.is_disowned)
        """Keys of which two cosignatures may prove a lie."""

    def heard(self, text: str, lines: Iterable[bytes]) -> tuple[NoteSignature, ...]:
        """Those of the lines that count though they come only now."""
        return self._counting(cosignatures_of(text, lines, *self.accusable))

    def held(self, text: str, lines: Iterable[bytes]) -> tuple[NoteSignature, ...]:
        """Those of the lines that count, being held before: disowned keys' early ones, too."""
        return self._counting(cosignatures_of(text, lines, *self._known))

    def _counting(self, found: Iterable[NoteSignature]) -> tuple[NoteSignature, ...]:
        return tuple(line for line in found if self._known[line.key].vouched(line.time_s))

    def check_accusation(self, proof: CosignaturesThatDisagree) -> None:
        """Raises ForkOfStranger, WitnessKeyEnded unless its owner has to answer for both sides."""
        known = self._known.get(proof.witness)
        if known is None:
            raise ForkOfStranger(actual=str(proof.witness))
        sides = [note_verify(note, proof.witness) for note in (proof.first, proof.second)]
        if known.is_disowned or not all(known.vouched(side.signatures[0].time_s) for side in sides):
            raise WitnessKeyEnded(f"until {known.until_us} µs", actual=str(proof.witness))
