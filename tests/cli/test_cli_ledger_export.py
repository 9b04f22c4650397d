"""Exports and the audit's page from the command line, with and without witnesses."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from gossip.keys import read_keys
from ledger.log import LogReader, Signer, cosign
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE

FORMS = ("proofs", "tiles", "prov", "rocrate", "csv")
TIME_S = 1_900_000_000


def cosigned_by_neighbour(consortium: Path) -> Path:
    """Site 0's home, whose head site 1 cosigned."""
    home, other = consortium / "site0", read_keys(consortium / "site1" / "keys")
    reader = LogReader.open(home)
    head = reader.checkpoint
    reader.close()
    name = f"witness-{other.site.hex()[:16]}"
    book = WitnessDatabase.open(home / WITNESS_NAME)
    line = cosign(head.text, name, Signer(other.witness), TIME_S)
    book.put_own_cosignature(head.size, head.root, line, TIME_S)
    book.close()
    return home


@pytest.mark.parametrize("form", FORMS)
def test_a_ledger_is_exported_into_a_new_folder_only(consortium: Path, form: str) -> None:
    home, out = consortium / "site0", consortium / "out"
    written = done("ledger", "export", form, "--out", out, "--home", home, "--json").json
    assert written["form"] == form
    assert all((out / name).is_file() for name in written["files"])
    again = p2pfl("ledger", "export", form, "--out", out, "--home", home)
    assert again.code == EXIT_CANNOT_CREATE
    assert "not empty" in again.err


def test_proofs_carry_the_neighbours_cosignature(consortium: Path) -> None:
    home, out = cosigned_by_neighbour(consortium), consortium / "out"
    said = done("ledger", "export", "proofs", "--out", out, "--home", home).out
    assert "too small for 10 of each" in said
    document = json.loads((out / "proofs.json").read_text())
    (key,) = document["wvkeys"]
    lines = document["note"].split("\n\n")[1].strip().split("\n")
    assert lines[1].split(" ")[1] == key.split("+")[0]
    assert int.from_bytes(b64decode(lines[1].split(" ")[2])[4:12], "big") == TIME_S
    done("data", "revoke", "patients", "--reason", "over", "--home", home)
    older = consortium / "older"
    done("ledger", "export", "proofs", "--out", older, "--home", home)
    assert json.loads((older / "proofs.json").read_text())["note"] == document["note"]


def test_the_page_names_the_witnesses(consortium: Path) -> None:
    page = consortium / "audit.html"
    home = consortium / "site0"
    done("ledger", "audit", "--format", "html", "--out", page, "--home", home)
    assert "did not look at what other sites hold" in page.read_text()
    cosigned_by_neighbour(consortium)
    text = done("ledger", "audit", "--format", "html", "--home", home).out
    assert "was cosigned by 1" in text
    assert "2030-03-17" in text
    refused = p2pfl("ledger", "audit", "--format", "html", "--out", page, "--home", home)
    assert refused.code == EXIT_CANNOT_CREATE


def test_a_folder_that_cannot_be_made_is_named(consortium: Path) -> None:
    (consortium / "file").write_text("")
    refused = p2pfl(
        "ledger", "export", "csv", "--out", consortium / "file", "--home", consortium / "site0"
    )
    assert refused.code == EXIT_CANNOT_CREATE
    assert "cannot be used" in refused.err
