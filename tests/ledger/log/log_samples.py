"""Ready-made keys, drafts and logs for the tests of ledger.log."""

from pathlib import Path

from ledger.log import Draft, Log, Signer, Value

SHARED = Path(__file__).parents[3].parent / "shared"
VECTORS = SHARED / "vectors"

IDENTITY = Signer(b"\x01" * 32)
LOG_KEY = Signer(b"\x02" * 32)
WITNESS = Signer(b"\x03" * 32)
STRANGER = Signer(b"\x04" * 32)
NOW_US = 1_800_000_000_000_000
STUDY = b"\x5a" * 32


def draft(number: int = 0, *, study: bytes | None = None, padding: int = 0) -> Draft:
    """A small entry; `number` makes it differ from others."""
    body: dict[str, Value] = {"number": number}
    if study is not None:
        body["study"] = study
    if padding:
        body["padding"] = "x" * padding
    return Draft("train.done", "node", body)


def new_log(home: Path, *, nonce: bytes = bytes(32)) -> Log:
    """A log that holds its genesis entry only."""
    return Log.create(
        home,
        deployment="tests",
        identity=IDENTITY,
        log=LOG_KEY,
        witness_pk=WITNESS.public_key,
        nonce=nonce,
        now_us=NOW_US,
    )


def closed_log(home: Path, commits: tuple[int, ...] = (3, 1, 5)) -> None:
    """A closed log whose commits hold so many entries each, after the genesis commit."""
    log = new_log(home)
    number = 0
    for count in commits:
        drafts = [draft(number + i, study=STUDY if i % 2 else None) for i in range(count)]
        log.append(drafts, NOW_US + number)
        number += count
    log.close()
