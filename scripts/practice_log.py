"""The log of docs/protocol.md and of the ledger's test vectors: everything follows from its seeds.

The keys are well known: never use them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.log import Draft, Log, Signer

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
IDENTITY, LOG_KEY, WITNESS, NEXT_LOG_KEY = (Signer(bytes([n]) * 32) for n in (1, 2, 3, 4))
SEEDS = "identity 01…, log 02…, witness 03…; nonce 00…"


@contextmanager
def practice_log() -> Iterator[Log]:
    """A log that holds its genesis entry, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log = Log.create(
            Path(folder),
            deployment="practice",
            identity=IDENTITY,
            log=LOG_KEY,
            witness_pk=WITNESS.public_key,
            nonce=bytes(32),
            now_us=START_US,
        )
        try:
            yield log
        finally:
            log.close()


def refuse(log: Log, study: bytes) -> None:
    """Append an entry, a second after the one before."""
    draft = Draft("study.refused", "data-owner", {"study": study, "reason": "no-vote"})
    log.append([draft], START_US + log.checkpoint.size * 1_000_000)
