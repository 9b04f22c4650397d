"""A ledger in the forms of others, read back by others' programs."""

import csv
import json
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from prov.model import ProvDocument
from prov_exports import WITNESSES, cosigned_home, cosigned_note, exported, witness_keys
from prov_stories import ME, START_US, Story, digest, write
from prov_teller import plain_story
from rocrate.rocrate import ROCrate

from ledger.log import Draft, Log, LogReader, Signer, verify_consistency, verify_inclusion
from ledger.log.tree import Frontier, leaf_hash
from ledger.provenance import exports
from ledger.provenance.exports.csv_table import iso_time, plain
from ledger.provenance.exports.tiles import tile_path
from ledger.provenance.kinds import RosterChanged, StudyApproved

PAGE = Path(exports.__file__).parents[1] / "html" / "check_proofs.txt"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cosigned_home(tmp_path_factory.mktemp("export") / "home")


def test_exported_proofs_hold(home: Path, tmp_path: Path) -> None:
    folder = exported(home, "proofs", tmp_path / "out")
    document = json.loads((folder / "proofs.json").read_text())
    assert len(document["inc"]) >= 10
    assert len(document["con"]) >= 10
    assert len(document["wvkeys"]) == len(WITNESSES)
    assert document["wvkey"] == document["wvkeys"][0]
    for inc in document["inc"]:
        leaf, root = b64decode(inc["leaf"]), b64decode(inc["root"])
        assert leaf_hash(b64decode(inc["data"])) == leaf
        verify_inclusion(leaf, inc["i"], inc["n"], [b64decode(x) for x in inc["proof"]], root)
    for con in document["con"]:
        proof = [b64decode(x) for x in con["proof"]]
        roots = b64decode(con["r1"]), b64decode(con["r2"])
        verify_consistency(con["m"], con["n"], *roots, proof)
    (some, *_) = sorted(folder.glob("*.tlog-proof"))
    lines = some.read_text().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert some.read_text().endswith(document["note"])


def test_entries_for_the_site_alone_are_not_among_the_proofs(home: Path, tmp_path: Path) -> None:
    folder = exported(home, "proofs", tmp_path / "out")
    text = b"".join(
        b64decode(inc["data"]) for inc in json.loads((folder / "proofs.json").read_text())["inc"]
    )
    assert b"dataset.registered" not in text
    assert b"roster.changed" in text


def test_a_log_too_small_gives_all_it_has_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "home", Story(()))
    reader = LogReader.open(tmp_path / "home")
    done = exports.export_proofs(reader, exports.head_of(reader), tmp_path)
    assert "too small for 10 of each: these are all that 1 entry can give" in done.sentences[-1]
    document = json.loads((tmp_path / "proofs.json").read_text())
    assert (len(document["inc"]), len(document["con"])) == (1, 0)
    assert "wvkey" not in document
    reader.close()
    (tmp_path / "two").mkdir()
    write(tmp_path / "two", Story(plain_story().told[:2]))
    reader = LogReader.open(tmp_path / "two")
    (tmp_path / "out").mkdir()
    done = exports.export_proofs(reader, exports.head_of(reader), tmp_path / "out")
    assert "that 3 entries can give" in done.sentences[-1]
    reader.close()


def test_a_cosigned_head_of_another_history_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", plain_story(rounds=2))
    (tmp_path / "short").mkdir()
    write(tmp_path / "short", Story(plain_story().told[:3]))
    long = LogReader.open(home)
    for name in ("other", "short"):
        reader = LogReader.open(tmp_path / name)
        with pytest.raises(exports.ExportError):
            exports.head_of(reader, cosigned_note(long.note), witness_keys())
        reader.close()
    long.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL 3")
def test_the_lines_printed_in_the_report_check_an_export(home: Path, tmp_path: Path) -> None:
    folder = exported(home, "proofs", tmp_path / "out")
    shutil.copy(PAGE, folder / "check.py")
    check = (sys.executable, "check.py")
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True, timeout=60)
    assert "are right" in done.stdout, done.stderr
    text = (folder / "proofs.json").read_text()
    (folder / "proofs.json").write_text(text.replace('"i": 0', '"i": 1', 1))
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0


# -- tiles ----------------------------------------------------------------------------------------


def test_tiles_hold_every_entry_and_lead_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    told = plain_story().told[0]
    write(tmp_path / "home", Story((told,) * 700))
    folder = exported(tmp_path / "home", "tiles", tmp_path / "out")
    names = sorted(str(x.relative_to(folder)) for x in folder.rglob("*") if x.is_file())
    assert names == [
        "checkpoint",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/189",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/189",
    ]
    frontier, upper = Frontier(), b""
    for tile in ("000", "001", "002.p/189"):
        leaves = (folder / "tile/0" / tile).read_bytes()
        bundle = (folder / "tile/entries" / tile).read_bytes()
        for at in range(0, len(leaves), 32):
            length = int.from_bytes(bundle[:2], "big")
            assert leaf_hash(bundle[2 : 2 + length]) == leaves[at : at + 32]
            bundle = bundle[2 + length :]
            upper += b"".join(
                node[2] for node in frontier.append(leaves[at : at + 32]) if node[0] == 8
            )
    assert (folder / "tile/1/000.p/2").read_bytes() == upper
    reader = LogReader.open(tmp_path / "home")
    assert frontier.root() == reader.checkpoint.root
    assert (folder / "checkpoint").read_bytes().startswith(reader.note)
    reader.close()


def test_full_tiles_leave_no_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "home", Story(plain_story().told[:1] * 255))
    folder = exported(tmp_path / "home", "tiles", tmp_path / "out")
    names = sorted(str(x.relative_to(folder / "tile")) for x in folder.rglob("0*") if x.is_file())
    assert names == ["0/000", "entries/000"]
    assert (folder / "tile/1/000.p/1").is_file()


def test_tiles_are_numbered_in_threes() -> None:
    assert tile_path(1_234_067, 256) == "x001/x234/067"
    assert tile_path(5, 9) == "005.p/9"


def test_an_entry_that_no_bundle_can_hold_is_refused(tmp_path: Path) -> None:
    log = Log.create(
        tmp_path,
        deployment="test",
        identity=Signer(digest("identity")),
        log=Signer(digest("log")),
        witness_pk=Signer(digest("witness")).public_key,
        nonce=digest("nonce"),
        now_us=START_US,
    )
    log.append([Draft("peer.head", "node", {"x": bytes(65_380)})], START_US)
    (tmp_path / "out").mkdir()
    with pytest.raises(exports.ExportError, match="entry 1 does not fit a tile"):
        exports.export_tiles(log, exports.head_of(log), tmp_path / "out")
    log.close()


# -- tables and graphs ----------------------------------------------------------------------------


def test_the_table_has_every_entry_and_runs_no_formula(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "home", plain_story())
    folder = exported(tmp_path / "home", "csv", tmp_path / "out")
    with (folder / "entries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seq"]) for row in rows] == list(range(len(plain_story().told) + 1))
    approved = next(row for row in rows if row["kind"] == StudyApproved.KIND)
    assert json.loads(approved["body"])["role"] == "data-owner"
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


def test_actors_that_look_like_formulas_are_harmless(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home = write(tmp_path / "home", plain_story())
    log = Log.open(home, log=Signer(digest("log")))
    log.append(
        [Draft("policy.changed", "@SUM(A1)".replace("(A1)", ""), {"hash": bytes(32)})], 2**60
    )
    log.close()
    folder = exported(home, "csv", tmp_path / "out")
    assert ",'@SUM," in (folder / "entries.csv").read_text()


def test_impossible_times_and_nested_values_are_shown() -> None:
    assert iso_time(2**62) == ""
    assert plain({"a": [b"\1", {"b": True}]}) == {"a": ["01", {"b": True}]}


def test_the_provenance_graph_is_read_by_prov(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home = write(tmp_path / "home", plain_story())
    folder = exported(home, "prov", tmp_path / "out")
    with (folder / "prov.json").open() as file:
        document = ProvDocument.deserialize(file, format="json")
    kinds = [record.get_type().localpart for record in document.get_records()]
    assert kinds.count("Agent") == 4
    assert kinds.count("Activity") == 1 + 3 + 4 + 1
    assert "Generation" in kinds
    assert "Basel" in (folder / "prov.json").read_text()
    assert document == ProvDocument.deserialize(content=document.serialize(), format="json")


def test_a_graph_goes_on_over_kinds_and_times_it_does_not_know(tmp_path: Path) -> None:
    story = Story((*plain_story().told, *plain_story().told[:1]))
    (tmp_path / "home").mkdir()
    home = write(tmp_path / "home", story)
    log = Log.open(home, log=Signer(digest("log")))
    log.append([plain_story().record(StudyApproved).draft("node")], 2**62)
    log.append([Draft("roster.changed", "node", {"odd": 1})], 2**62)
    log.close()
    reader = LogReader.open(home)
    (tmp_path / "out").mkdir()
    done = exports.export_prov(reader, exports.head_of(reader), tmp_path / "out", ME, {})
    assert "statements" in done.sentences[0]
    assert RosterChanged.KIND not in (tmp_path / "out" / "prov.json").read_text()
    reader.close()


def test_the_research_object_is_read_by_rocrate(home: Path, tmp_path: Path) -> None:
    folder = exported(home, "rocrate", tmp_path / "out")
    crate = ROCrate(folder)
    assert crate.name == "Ledger evidence of Basel"
    described = {entity.id for entity in crate.data_entities}
    assert {"proofs.json", "prov.json", "checkpoint"} <= described
    assert all((folder / name).is_file() for name in described)
    (model,) = [x for x in crate.contextual_entities if x.id.startswith("#model-")]
    assert model["name"] == "Released model of heart, round 3"
