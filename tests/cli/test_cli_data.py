"""Registering data: what is wrong with a table is said with line and column, never with a value."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ops_sites import SCHEMA, done, found, p2pfl, register, write_table

from p2pfl.runtime.datasets import check_unchanged, data_key, dataset_of, read_dataset
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found(tmp_path, sites=2)[0]


def entries(home: Path, kind: str) -> list[dict[str, object]]:
    shown = done("ledger", "show", "--home", home, "-n", 100, "--json").json
    return [entry["body"] for entry in shown if entry["kind"] == kind]


def test_ledger_gets_public_facts_only(home: Path) -> None:
    seen = register(home, "--json", rows=67).json
    (body,) = entries(home, "dataset.registered")
    raw = Path(seen["file"]).read_bytes()
    assert body["patients_bucket"] == 63
    assert body["cap_u"] == 8_000_000
    assert body["delta"] == "1e-3"
    texts = str(body)
    assert hashlib.sha256(raw).hexdigest() not in texts
    assert "67" not in texts.replace(str(body["fp_commit"]), "").replace(
        str(body["ds"]), ""
    ).replace(str(body["schema_hash"]), "")
    assert Path(seen["file"]).name not in texts


def test_data_is_referred_to_and_not_copied(home: Path) -> None:
    seen = register(home, "--json").json
    content = Path(seen["file"]).read_bytes()
    assert all(content not in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_a_changed_file_is_noticed_before_training(home: Path) -> None:
    register(home)
    opened = Home(home)
    dataset = read_dataset(opened, "patients")
    check_unchanged(opened, dataset)
    dataset.file.write_text(dataset.file.read_text() + "50,1,1\n")
    with pytest.raises(OperatorError, match="changed since it was registered"):
        check_unchanged(opened, dataset)
    assert dataset_of(opened, dataset.ds) == dataset


def test_fingerprints_of_two_sites_differ_for_the_same_file(tmp_path: Path) -> None:
    homes = found(tmp_path, sites=2)
    for home in homes:
        assert register(home, rows=60, seed=1).code == 0
    first, second = (read_dataset(Home(home), "patients") for home in homes)
    assert first.file.read_bytes() == second.file.read_bytes()
    assert first.fingerprint != second.fingerprint


MALFORMED = [
    ("", "is empty"),
    ("age,cp,num\n", "has no rows below its header"),
    ("age,cp,num\n50,1\n", "line 2: 2 cells, the header has 3"),
    ("age;cp;num\n50;1;1\n", 'the separator seems to be ";"'),
    ("age,num\n50,1\n", 'no column "cp"'),
    ("age,cp,cp,num\n50,1,1,1\n", 'two columns are named "cp"'),
    ("age,cp,,num\n50,1,1,1\n", "column 3 has no name"),
    ("age,cp,num\nold,1,1\n", 'line 2, column "age": not a number'),
    ("age,cp,num\n50,1,1\nnan,1,1\n", 'line 3, column "age": not a number'),
    ("age,cp,num\n50,1,?\n", 'column "num": the target is missing'),
    ('age,cp,num\n"50,1,1\n', "not CSV"),
    ("age,cp,num\n" + "50,1,1\n" * 60, "every row has the same label"),
    ("age,cp,num\n50,1,1\n40,2,0\n", "has 2 patients"),
]


@pytest.mark.parametrize(("content", "what"), MALFORMED)
def test_malformed_table_is_refused_with_its_place(home: Path, content: str, what: str) -> None:
    table, schema = home.parent / "bad.csv", home.parent / "schema.toml"
    table.write_text(content)
    schema.write_text(SCHEMA)
    words = ("data", "add", table, "--name", "bad", "--schema", schema, "--home", home)
    refused = p2pfl(*words)
    assert refused.code == EXIT_DATA
    assert what in refused.err
    assert "old" not in refused.err
    assert entries(home, "dataset.registered") == []


def test_another_encoding_is_refused(home: Path) -> None:
    table = home.parent / "latin.csv"
    table.write_bytes("größe,cp\n1,2\n".encode("latin-1"))
    refused = p2pfl("data", "add", table, "--name", "x", "--home", home)
    assert refused.code == EXIT_DATA
    assert "is not UTF-8 text" in refused.err


def test_missing_file_and_missing_dataset_are_said(home: Path) -> None:
    refused = p2pfl("data", "add", home / "nothing.csv", "--name", "x", "--home", home)
    assert refused.code == EXIT_NO_INPUT
    assert p2pfl("data", "show", "nothing", "--home", home).code == EXIT_NO_INPUT
    assert p2pfl("data", "revoke", "../keys", "--home", home).code == EXIT_NO_INPUT


@pytest.mark.parametrize("name", ["", "Patients", "a b", "../x", "x" * 41])
def test_unusable_names_are_refused(home: Path, name: str) -> None:
    table = write_table(home.parent / "t.csv", rows=60, seed=1)
    refused = p2pfl("data", "add", table, f"--name={name}", "--home", home)
    assert refused.code == EXIT_USAGE


def test_a_name_is_used_once(home: Path) -> None:
    assert register(home).code == 0
    assert register(home).code == EXIT_CANNOT_CREATE


def test_the_same_patients_under_another_name_are_refused(home: Path) -> None:
    register(home)
    lines = (home.parent / "site0.csv").read_text().splitlines()
    again = home.parent / "again.csv"
    again.write_text("\n".join([lines[0], *reversed(lines[20:])]) + "\n")
    refused = p2pfl("data", "add", again, "--name", "again", "--home", home)
    assert refused.code == EXIT_REFUSED
    assert 'registered already, in "patients" (registered)' in refused.err


def test_data_that_was_never_used_may_be_withdrawn_and_registered_again(home: Path) -> None:
    register(home)
    done("data", "revoke", "patients", "--home", home)
    again = done("data", "add", home.parent / "site0.csv", "--name", "new", "--home", home)
    assert "registered" in again.out


def test_patients_are_counted_by_their_column(home: Path) -> None:
    table = home.parent / "visits.csv"
    rows = [f"p{number % 30},{20 + number},{number % 4 + 1},{number % 2}" for number in range(60)]
    table.write_text("\n".join(["pid,age,cp,num", *rows]) + "\n")
    words = ("data", "add", table, "--name", "visits", "--patient-column", "pid", "--home", home)
    seen = done(*words, "--json").json
    assert seen["patients"] == 30
    assert seen["rows"] == 60
    assert "only the first row" in seen["notes"][0]
    one_again = home.parent / "one.csv"
    fresh = [f"q{number},{20 + number},1,{number % 2}" for number in range(40)]
    one_again.write_text("\n".join(["pid,age,cp,num", "p3,50,1,1", *fresh]) + "\n")
    refused = p2pfl(
        "data", "add", one_again, "--name", "one", "--patient-column", "pid", "--home", home
    )
    assert "1 of 41 patients are registered already" in refused.err


def test_a_row_without_its_patient_is_refused(home: Path) -> None:
    table = home.parent / "visits.csv"
    table.write_text("pid,age\np1,3\n,4\n")
    refused = p2pfl("data", "add", table, "--name", "v", "--patient-column", "pid", "--home", home)
    assert "line 3: no patient is named" in refused.err


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (("--epsilon-cap", "9"), EXIT_REFUSED, "outside this site's policy"),
        (("--epsilon-cap", "-1"), EXIT_REFUSED, "outside this site's policy"),
        (("--delta", "1e-2"), EXIT_REFUSED, "larger than this site's policy allows"),
        (("--delta", "many"), EXIT_USAGE, "--delta"),
        (("--legal-basis", "we asked nicely"), EXIT_USAGE, "is not a code"),
    ],
)
def test_terms_beyond_the_policy_are_refused(
    home: Path, options: tuple[str, ...], code: int, what: str
) -> None:
    refused = register(home, *options)
    assert refused.code == code
    assert what in refused.err


def test_smaller_cap_and_delta_are_recorded(home: Path) -> None:
    assert register(home, "--epsilon-cap", "2.5", "--delta", "1e-5").code == 0
    (body,) = entries(home, "dataset.registered")
    assert (body["cap_u"], body["delta"]) == (2_500_000, "1e-5")


def test_values_outside_the_agreed_range_are_told(home: Path) -> None:
    table, schema = home.parent / "months.csv", home.parent / "schema.toml"
    schema.write_text(SCHEMA)
    rows = [f"{240 + number},7,{number % 2}" for number in range(40)]
    table.write_text("\n".join(["age,cp,num", *rows]) + "\n")
    words = ("data", "add", table, "--name", "m", "--schema", schema, "--home", home)
    notes = done(*words, "--json").json["notes"]
    assert notes[0] == 'column "age": 40 of 40 values lie outside the agreed range or codes'


def test_revoked_data_stays_visible_and_cannot_be_revoked_twice(home: Path) -> None:
    register(home)
    revoked = done("data", "revoke", "patients", "--home", home).out
    assert "(revoked)" in revoked
    assert "for good" in revoked
    assert done("data", "list", "--home", home, "--json").json[0]["state"] == "revoked"
    assert p2pfl("data", "revoke", "patients", "--home", home).code == EXIT_REFUSED
    assert len(entries(home, "dataset.revoked")) == 1


def test_an_interrupted_registration_leaves_its_name_free(home: Path) -> None:
    register(home)
    particulars = home / "data" / "patients" / "dataset.toml"
    ds = read_dataset(Home(home), "patients").ds.hex()
    particulars.write_text(particulars.read_text().replace(ds, "ab" * 32))
    assert done("data", "list", "--home", home, "--json").json[0]["state"] == "unrecorded"


@pytest.mark.parametrize("content", ["", "xy" * 32, "ab"])
def test_a_damaged_data_key_is_named(home: Path, content: str) -> None:
    (home / "keys" / "data.key").write_text(content)
    with pytest.raises(OperatorError, match=r"data\.key is missing or damaged"):
        data_key(Home(home))


def test_lists_fit_a_terminal_and_are_plain_when_piped(home: Path) -> None:
    assert "No datasets yet" in done("data", "list", "--home", home).out
    register(home)
    listed = done("data", "list", "--home", home).out
    assert max(map(len, listed.splitlines())) <= 80
    assert "\x1b" not in listed
