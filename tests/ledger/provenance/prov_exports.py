"""A small home whose head two witnesses cosigned, and its exports."""

from pathlib import Path

from prov_stories import ME, NAMES, START_US, digest, write
from prov_teller import plain_story

from ledger.log import KeyType, LogReader, Signer, VerifierKey, cosign
from ledger.provenance import exports

WITNESSES = tuple(Signer(digest("witness", number)) for number in (1, 2))
STUDY = digest("study", 1)


def cosigned_home(home: Path) -> Path:
    """The plain story, written."""
    home.mkdir(parents=True)
    return write(home, plain_story())


def witness_keys() -> tuple[VerifierKey, ...]:
    return tuple(
        VerifierKey(f"w{at}.example/witness", KeyType.COSIGNATURE_V1, signer.public_key)
        for at, signer in enumerate(WITNESSES, 1)
    )


def cosigned_note(note: bytes) -> bytes:
    text = note.decode().split("\n\n")[0] + "\n"
    lines = (
        cosign(text, key.name, signer, 1_800_000_000)
        for key, signer in zip(witness_keys(), WITNESSES, strict=True)
    )
    return note + b"".join(lines)


def exported(home: Path, form: str, out: Path) -> Path:
    """Export a home in one form; returns the folder."""
    out.mkdir(parents=True)
    reader = LogReader.open(home)
    try:
        head = exports.head_of(reader, cosigned_note(reader.note), witness_keys())
        match form:
            case "proofs":
                exports.export_proofs(reader, head, out)
            case "tiles":
                exports.export_tiles(reader, head, out)
            case "csv":
                exports.export_csv(reader, head, out)
            case "prov":
                exports.export_prov(reader, head, out, ME, NAMES)
            case _:
                about = exports.CrateAbout(ME, NAMES, {STUDY: "heart"}, START_US)
                exports.export_crate(reader, head, out, about)
    finally:
        reader.close()
    return out
