"""The local cases of the tamper list, each found by name and by entry number."""

import threading

import msgpack
import pytest
from log_samples import LOG_KEY, NOW_US, STUDY, draft, new_log
from log_tampering import SIZE

from ledger.log import (
    Draft,
    ExitCode,
    FindingCode,
    Log,
    SigCheck,
    verify_log,
)
from ledger.log.dm1 import decode, encode
from ledger.log.entries import ENTRY_DOMAIN, split_raw

BOTH = pytest.mark.parametrize("sigs", [SigCheck.ALL, SigCheck.HEADS])


@pytest.mark.parametrize("sigs", SigCheck)
def test_an_untouched_log_is_clean(home, sigs):
    result = verify_log(home, sigs=sigs)
    assert result.findings == ()
    assert result.size == SIZE
    assert result.exit_code == ExitCode.CLEAN
    log = Log.open(home, log=LOG_KEY)
    assert result.root == log.checkpoint.root
    log.close()


@pytest.mark.parametrize("start", [0, 1, 1_024, 2_000, SIZE, SIZE + 5])
def test_verification_may_start_later(home, start):
    result = verify_log(home, start=start)
    assert result.findings == ()
    assert result.root == verify_log(home).root


def test_a_running_node_does_not_disturb_verification(home):
    log = Log.open(home, log=LOG_KEY)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            log.append([draft(1)], NOW_US)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            result = verify_log(home, sigs=SigCheck.HEADS)
            # Between a commit and its release there may be one unreleased commit.
            assert {finding.code for finding in result.findings} <= {FindingCode.UNRELEASED}
            assert result.exit_code == ExitCode.CLEAN
    finally:
        stop.set()
        writer.join()
        log.close()


# --- 1: a flipped bit in an entry --------------------


@BOTH
@pytest.mark.parametrize(
    ("seq", "offset"),
    [(1, 1), (1_023, 20), (1_024, 120), (1_500, -90), (1_500, -3), (SIZE - 1, -70), (SIZE - 1, -3)],
)
def test_1_a_flipped_bit_in_an_entry(tamper, sigs, seq, offset):
    tamper.flip(seq, offset)
    found, result = tamper.found(sigs)
    assert found == {(FindingCode.ENTRY_ALTERED, seq)}
    assert result.exit_code == ExitCode.INTEGRITY_BROKEN


def test_1_without_signatures_an_altered_entry_is_still_found(tamper):
    tamper.flip(1_500, -3)
    assert (FindingCode.ENTRY_ALTERED, 1_500) in tamper.found(SigCheck.NONE)[0]


def test_1_a_flipped_bit_in_the_genesis_entry(tamper):
    tamper.flip(0, 100)
    found, result = tamper.found()
    assert found == {(FindingCode.GENESIS_INVALID, 0)}
    assert result.exit_code == ExitCode.INTEGRITY_BROKEN


@BOTH
@pytest.mark.parametrize("seq", [2, 1_700, SIZE - 1])
def test_1_an_altered_entry_under_a_rehashed_tree(tamper, sigs, seq):
    tamper.flip(seq, -3)
    tamper.rehash()
    found, _ = tamper.found(sigs)
    assert (FindingCode.SIGNATURE_INVALID, seq) in found
    assert (FindingCode.ROOT_MISMATCH, None) in found


def test_1_without_signatures_a_rehashed_tree_does_not_fit_the_released_heads(tamper):
    tamper.flip(1_700, -3)
    tamper.rehash()
    found, _ = tamper.found(SigCheck.NONE)
    assert (FindingCode.ROOT_MISMATCH, None) in found


# --- 2: index columns, leaves and nodes --------------------


@BOTH
@pytest.mark.parametrize(
    "assignment",
    [
        "leaf = zeroblob(32)",
        "leaf = 'text'",
        "kind = 'other'",
        "kind = 7",
        "kind = CAST(x'ff' AS TEXT)",
        "study = NULL",
        "study = zeroblob(32)",
        "study = 'text'",
        "study = x''",
    ],
)
def test_2_a_changed_index_column(tamper, sigs, assignment):
    tamper.run(f"UPDATE entry SET {assignment} WHERE seq = 1502")  # noqa: S608 -- our own text
    found, _ = tamper.found(sigs)
    assert (FindingCode.INDEX_ALTERED, 1_502) in found
    assert {code for code, _ in found} <= {FindingCode.INDEX_ALTERED}


def test_2_a_study_column_where_there_is_no_study(tamper):
    tamper.run("UPDATE entry SET study = ? WHERE seq = 1501", STUDY)
    assert tamper.found(SigCheck.HEADS)[0] == {(FindingCode.INDEX_ALTERED, 1_501)}


def test_a_study_inside_another_map_is_no_index(home):
    log = Log.open(home, log=LOG_KEY)
    log.append([Draft("agg.done", "node", {"inner": {"study": STUDY}})], NOW_US)
    log.append([Draft("agg.done", "node", {"study": "text"})], NOW_US)
    log.close()
    for sigs in SigCheck:
        assert not verify_log(home, sigs=sigs).findings


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE node SET h = zeroblob(32) WHERE lvl = 3 AND idx = 130",
        "UPDATE node SET h = 'text' WHERE lvl = 1 AND idx = 512",
        "DELETE FROM node WHERE lvl = 10 AND idx = 1",
    ],
)
def test_2_a_changed_node(tamper, sigs, change):
    tamper.run(change)
    assert tamper.found(sigs)[0] == {(FindingCode.NODE_ALTERED, 1_024)}


@BOTH
def test_2_a_changed_node_above_a_block(tamper, sigs):
    tamper.run("UPDATE node SET h = zeroblob(32) WHERE lvl = 11 AND idx = 0")
    assert tamper.found(sigs)[0] == {(FindingCode.NODE_ALTERED, 1_024)}


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO node VALUES (1, 1300, zeroblob(32))",
        "INSERT INTO node VALUES (1, -1, zeroblob(32))",
        "INSERT INTO node VALUES (0, 0, zeroblob(32))",
        "INSERT INTO node VALUES (63, 0, zeroblob(32))",
        "INSERT INTO entry SELECT -1, leaf, kind, study, raw FROM entry WHERE seq = 5",
    ],
)
def test_2_rows_that_no_entry_calls_for(tamper, change):
    tamper.run(change)
    assert tamper.found()[0] == {(FindingCode.NODE_ALTERED, None)}


# --- 3 to 6: missing, moved and repeated entries --------------------


@BOTH
def test_3_a_deleted_tail(tamper, sigs):
    tamper.run("DELETE FROM entry WHERE seq >= 2550")
    found, result = tamper.found(sigs)
    assert (FindingCode.TAIL_MISSING, None) in found
    assert result.exit_code == ExitCode.ROLLBACK
    assert result.size == 2_550


@BOTH
@pytest.mark.parametrize("seq", [1, 1_500, 1_024])
def test_4_a_dropped_entry(tamper, sigs, seq):
    tamper.run("DELETE FROM entry WHERE seq = ?", seq)
    found, result = tamper.found(sigs)
    assert found == {(FindingCode.ENTRY_MISSING, seq)}
    assert result.root is None


@BOTH
def test_4_a_dropped_entry_with_the_rest_moved_up(tamper, sigs):
    tamper.run("DELETE FROM entry WHERE seq = 1500")
    tamper.run("UPDATE entry SET seq = -seq WHERE seq > 1500")
    tamper.run("UPDATE entry SET seq = -seq - 1 WHERE seq < 0")
    tamper.run("UPDATE head SET size = size - 1")
    tamper.rehash()
    found, result = tamper.found(sigs)
    assert (FindingCode.ENTRY_MISPLACED, 1_500) in found
    assert (FindingCode.ROLLBACK, None) in found
    assert result.exit_code == ExitCode.ROLLBACK


@BOTH
def test_5_swapped_entries(tamper, sigs):
    first, second = tamper.raw(1_400), tamper.raw(1_401)
    tamper.write_raw(1_400, second)
    tamper.write_raw(1_401, first)
    found, _ = tamper.found(sigs)
    assert {
        (FindingCode.ENTRY_MISPLACED, 1_400),
        (FindingCode.ENTRY_MISPLACED, 1_401),
    } <= found


@BOTH
def test_5_swapped_entries_under_a_rehashed_tree(tamper, sigs):
    first, second = tamper.raw(1_400), tamper.raw(1_401)
    tamper.write_raw(1_400, second)
    tamper.write_raw(1_401, first)
    tamper.rehash()
    found, _ = tamper.found(sigs)
    assert {
        (FindingCode.ENTRY_MISPLACED, 1_400),
        (FindingCode.ENTRY_MISPLACED, 1_401),
        (FindingCode.ROOT_MISMATCH, None),
    } <= found


@BOTH
def test_6_an_entry_stored_again_under_another_number(tamper, sigs):
    tamper.write_raw(1_401, tamper.raw(1_400))
    assert (FindingCode.ENTRY_MISPLACED, 1_401) in tamper.found(sigs)[0]


@BOTH
def test_6_two_entries_of_one_number(tamper, sigs):
    tamper.run("ALTER TABLE entry RENAME TO old")
    tamper.run("CREATE TABLE entry(seq INTEGER, leaf BLOB, kind TEXT, study BLOB, raw BLOB)")
    tamper.run("INSERT INTO entry SELECT * FROM old")
    tamper.run("INSERT INTO entry SELECT * FROM old WHERE seq = 1400")
    tamper.run("CREATE INDEX again ON entry(seq)")
    assert (FindingCode.ENTRY_DUPLICATE, 1_400) in tamper.found(sigs)[0]


# --- 7, 17, 18: entries that are not what the log key signed --------------------


@BOTH
def test_7_a_swapped_signature(tamper, sigs):
    body, key_id, _ = split_raw(tamper.raw(1_300))
    other = split_raw(tamper.raw(1_301))[2]
    tamper.write_raw(1_300, msgpack.packb([body, key_id, other]))
    tamper.rehash()
    assert (FindingCode.SIGNATURE_INVALID, 1_300) in tamper.found(sigs)[0]


@BOTH
def test_7_a_stripped_signature(tamper, sigs):
    tamper.write_raw(1_300, tamper.raw(1_300)[:-66])
    tamper.rehash()
    assert (FindingCode.ENTRY_MALFORMED, 1_300) in tamper.found(sigs)[0]


@BOTH
def test_7_another_key_id(tamper, sigs):
    body, _, signature = split_raw(tamper.raw(1_300))
    tamper.write_raw(1_300, msgpack.packb([body, b"\1\2\3\4", signature]))
    tamper.rehash()
    assert (FindingCode.KEY_UNKNOWN, 1_300) in tamper.found(sigs)[0]


@BOTH
def test_17_an_entry_of_another_log(tamper, sigs, tmp_path):
    other = new_log(tmp_path / "other", nonce=b"\1" * 32)
    raw = other.append([draft(1)], NOW_US).entries[0].raw
    other.close()
    tamper.write_raw(1_300, raw)
    tamper.rehash()
    assert (FindingCode.FOREIGN_ENTRY, 1_300) in tamper.found(sigs)[0]


def test_18_a_non_canonical_entry_even_if_it_is_signed(tamper):
    body, key_id, _ = split_raw(tamper.raw(1_300))
    assert body.endswith(b"\xa1v\x01")
    longer = body[:-1] + b"\xcc\x01"
    signature = LOG_KEY.sign(ENTRY_DOMAIN + longer)
    tamper.write_raw(1_300, msgpack.packb([longer, key_id, signature]))
    tamper.rehash()
    assert (FindingCode.NOT_CANONICAL, 1_300) in tamper.found()[0]


@BOTH
def test_an_entry_replaced_by_the_key_holder_breaks_the_chain(tamper, sigs):
    body, key_id, _ = split_raw(tamper.raw(1_300))
    fields = decode(body)
    fields["b"]["number"] = 1
    changed = encode(fields)
    raw = msgpack.packb([changed, key_id, LOG_KEY.sign(ENTRY_DOMAIN + changed)])
    tamper.write_raw(1_300, raw)
    tamper.rehash()
    found, _ = tamper.found(sigs)
    assert found == {(FindingCode.CHAIN_BROKEN, 1_301), (FindingCode.ROOT_MISMATCH, None)}
