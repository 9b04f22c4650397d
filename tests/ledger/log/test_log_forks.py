"""Fork proofs: two histories always give one that holds, one history never does."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_histories import GENESIS, KEY, LOG_ID, ORIGIN, OWNER, WITNESS_KEY, History
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER

from ledger.log import Checkpoint, ForkKind, KeyType, VerifierKey, check_fork, dm1, note_sign
from ledger.log import fork_errors as errors
from ledger.log.entries import NO_PREVIOUS, sign_entry
from ledger.log.fork_proofs import (
    FORK_BYTES_MAX,
    CosignaturesThatDisagree,
    EntriesOfOneNumber,
    HeadsOfOneSize,
    decode_fork,
    encode_fork,
    fork_digest,
)
from ledger.log.forks import (
    check_proven,
    fork_of_cosignatures,
    fork_of_entries,
    fork_of_heads,
)
from ledger.log.own_kinds import rotation_draft, sign_rotation

OTHER_KEY = VerifierKey(ORIGIN, KeyType.ED25519, STRANGER.public_key)


@st.composite
def two_histories(draw):
    """Two histories that differ from one entry on, and a size of each beyond that."""
    start = draw(st.integers(0, 70))
    sizes = [start + draw(st.integers(1, 70)) for _ in range(2)]
    return (
        History(sizes[0], branch=1, start=start),
        History(sizes[1], branch=2, start=start),
    )


def nodes_of_larger(a, b):
    return max((a, b), key=lambda history: len(history.leaves)).node_at


@given(two_histories())
def test_any_two_histories_that_differ_give_a_proof_that_holds(pair):
    a, b = pair
    proof = fork_of_heads(KEY, a.note(), b.note(), nodes_of_larger(a, b))
    verdict = check_fork(encode_fork(proof))
    assert verdict.log_id == LOG_ID
    assert verdict.sizes == tuple(sorted((len(a.leaves), len(b.leaves))))
    same = len(a.leaves) == len(b.leaves)
    assert verdict.kind is (ForkKind.HEADS_OF_ONE_SIZE if same else ForkKind.HEADS_THAT_DISAGREE)
    assert decode_fork(encode_fork(proof)) == proof
    witnessed = fork_of_cosignatures(WITNESS_KEY, a.cosigned(), b.cosigned(), nodes_of_larger(a, b))
    assert check_fork(encode_fork(witnessed)).witness == WITNESS_KEY
    assert decode_fork(encode_fork(witnessed)) == witnessed


@given(st.integers(1, 140), st.integers(0, 140))
def test_one_history_never_gives_a_proof(size, smaller):
    history = History(size)
    m = min(size, smaller)
    assert fork_of_heads(KEY, history.note(m), history.note(), history.node_at) is None
    assert (
        fork_of_cosignatures(WITNESS_KEY, history.cosigned(m), history.cosigned(), history.node_at)
        is None
    )


@settings(max_examples=40, deadline=None)
@given(two_histories(), st.data())
def test_a_proof_altered_in_any_place_is_refused_by_name(pair, data):
    a, b = pair
    proof = encode_fork(fork_of_heads(KEY, a.note(), b.note(), nodes_of_larger(a, b)))
    for _ in range(4):
        at = data.draw(st.integers(0, len(proof) - 1))
        value = data.draw(st.integers(1, 255))
        altered = proof[:at] + bytes([proof[at] ^ value]) + proof[at + 1 :]
        try:
            verdict = check_fork(altered)
        except errors.ForkRefused:
            continue
        # A signature line may name the key again in bytes that nobody signs; the claim stands.
        assert verdict.log_id == LOG_ID


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_by_name(data):
    with pytest.raises(errors.ForkRefused):
        check_fork(data)


scalars = st.one_of(
    st.integers(-2, 2),
    st.booleans(),
    st.binary(max_size=40),
    st.sampled_from(["K1", "K4", "", "x"]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            name: st.one_of(scalars, st.lists(st.one_of(scalars, st.just(str(KEY))), max_size=3))
            for name in ("first", "keys", "kind", "lineage", "path", "second", "v")
        }
    )
)
def test_hostile_fields_are_refused_by_name(fields):
    with pytest.raises(errors.ForkRefused):
        check_fork(dm1.encode(fields))


FIELDS = dm1.decode(
    encode_fork(HeadsOfOneSize((KEY,), History(3).note(), History(3, branch=1).note()))
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", True),
        ("first", "text"),
        ("second", 1),
        ("kind", "K5"),
        ("keys", []),
        ("keys", [1]),
        ("keys", ["no key"]),
        ("keys", [str(KEY)] * 5),
        ("path", [bytes(33)]),
        ("path", [bytes(32)]),
        ("path", "text"),
        ("path", [bytes(32)] * 66),
        ("lineage", [1]),
        ("lineage", [b"no entry"]),
    ],
)
def test_each_field_is_checked(field, value):
    with pytest.raises(errors.ForkRefused):
        check_fork(dm1.encode({**FIELDS, field: value}))
    assert check_fork(dm1.encode(FIELDS))


def test_what_is_no_proof_file_at_all_is_refused():
    for data in (b"", dm1.encode([]), dm1.encode({"v": 1}), bytes(FORK_BYTES_MAX + 1)):
        with pytest.raises(errors.ForkMalformed):
            check_fork(data)
    for kind in ("K2", "K3"):
        with pytest.raises(errors.ForkRefused):
            check_fork(dm1.encode({**FIELDS, "kind": kind}))
    two_keys = {**FIELDS, "kind": "K4", "keys": [str(KEY), str(KEY)]}
    with pytest.raises(errors.ForkMalformed):
        check_fork(dm1.encode(two_keys))


def test_the_first_subtree_is_given_even_where_a_consistency_proof_leaves_it_out():
    a, b = History(4, branch=1), History(6, branch=2)
    proof = fork_of_heads(KEY, b.note(), a.note(), b.node_at)
    assert proof.path[0] == b.node_at(2, 0)
    with pytest.raises(errors.ForkMalformed):
        check_proven(replace(proof, path=proof.path[1:]))
    with pytest.raises(errors.ForkConsistent):
        check_proven(replace(proof, path=(bytes(32), *proof.path[1:])))
    with pytest.raises(errors.ForkMalformed):
        check_proven(replace(proof, older=b.note(), path=()))


def test_without_the_larger_tree_only_heads_of_one_size_are_compared():
    a, b = History(4, branch=1), History(6, branch=2)
    assert fork_of_heads(KEY, a.note(), b.note()) is None
    assert fork_of_heads(KEY, a.note(), b.note(4)) is not None
    assert fork_of_heads(KEY, a.note(0), b.note(), b.node_at) is None
    assert fork_of_cosignatures(WITNESS_KEY, a.cosigned(), b.cosigned()) is None
    assert fork_of_cosignatures(WITNESS_KEY, a.cosigned(), b.cosigned(4)) is not None


def test_a_side_that_the_key_did_not_sign_proves_nothing():
    a, b = History(4, branch=1), History(4, branch=2)
    with pytest.raises(errors.ForkUnsigned):
        fork_of_heads(KEY, a.note(), b.note(signer=STRANGER))
    with pytest.raises(errors.ForkUnsigned):
        fork_of_cosignatures(WITNESS_KEY, a.note(), b.cosigned())


def test_heads_of_two_logs_prove_nothing():
    other = note_sign(Checkpoint("other", 4, bytes(32)).text, ORIGIN, LOG_KEY)
    with pytest.raises(errors.ForkOfOtherLog):
        check_proven(HeadsOfOneSize((KEY,), History(4).note(), other))
    key = VerifierKey("x", KeyType.ED25519, LOG_KEY.public_key)
    notes = [note_sign(Checkpoint("x", 4, bytes([i]) * 32).text, "x", LOG_KEY) for i in range(2)]
    with pytest.raises(errors.ForkMalformed):
        check_proven(HeadsOfOneSize((key,), *notes))
    notes = [note_sign(Checkpoint(ORIGIN, 4, bytes([i]) * 32).text, "x", LOG_KEY) for i in range(2)]
    with pytest.raises(errors.ForkOfOtherLog):
        check_proven(HeadsOfOneSize((key,), *notes))
    with pytest.raises(errors.ForkMalformed):
        check_proven(CosignaturesThatDisagree(KEY, History(4).note(), History(5).note()))
    a, b = History(4, branch=1).cosigned(), History(4, branch=2).cosigned()
    with pytest.raises(errors.ForkMalformed):
        check_proven(CosignaturesThatDisagree(WITNESS_KEY, a, b, (bytes(32),)))


ONE, TWO = (History(6, branch=branch, start=4, real=True).raws for branch in (1, 2))


def test_two_entries_of_one_number_are_proven():
    verdict = check_fork(encode_fork(fork_of_entries(KEY, ONE[4], TWO[4], lineage=ONE[:1])))
    assert (verdict.kind, verdict.sizes, verdict.bound) == (
        ForkKind.ENTRIES_OF_ONE_NUMBER,
        (4, 4),
        True,
    )
    assert "number 4" in verdict.sentence


def test_entries_that_agree_or_are_not_comparable_prove_nothing():
    assert fork_of_entries(KEY, ONE[3], TWO[3]) is None
    assert fork_of_entries(KEY, ONE[4], TWO[5]) is None
    assert fork_of_entries(OTHER_KEY, ONE[4], TWO[4]) is None
    assert fork_of_entries(KEY, ONE[4], b"no entry") is None
    stranger = VerifierKey(ORIGIN.replace("a", "b"), KeyType.ED25519, LOG_KEY.public_key)
    with pytest.raises(errors.ForkUnsigned):
        check_proven(EntriesOfOneNumber((stranger,), ONE[4], TWO[4]))


def entry_of(identity, log, seq=4):
    return sign_entry(
        GENESIS, identity=identity, seq=seq, prev=NO_PREVIOUS, time_us=NOW_US, log=log
    )


def test_entries_of_another_log_under_the_same_key_prove_nothing():
    other = replace(OWNER, log_id=bytes(32))
    mixed = EntriesOfOneNumber((KEY,), ONE[4], entry_of(other, LOG_KEY))
    with pytest.raises(errors.ForkOfOtherLog):
        check_proven(mixed)
    both = EntriesOfOneNumber(
        (KEY,), entry_of(other, LOG_KEY), entry_of(other, LOG_KEY)[:-64] + b""
    )
    with pytest.raises(errors.ForkMalformed):
        check_proven(both)
    draft_b = replace(GENESIS, actor="other")
    second = sign_entry(
        draft_b, identity=other, seq=4, prev=NO_PREVIOUS, time_us=NOW_US, log=LOG_KEY
    )
    with pytest.raises(errors.ForkOfOtherLog):
        check_proven(EntriesOfOneNumber((KEY,), entry_of(other, LOG_KEY), second))


def rotation(new, seq=3):
    statement = sign_rotation(
        LOG_ID, old_pk=LOG_KEY.public_key, new_pk=new.public_key, identity=IDENTITY
    )
    return sign_entry(
        rotation_draft(OWNER, new.public_key, statement, "node"),
        identity=OWNER,
        seq=seq,
        prev=NO_PREVIOUS,
        time_us=NOW_US,
        log=LOG_KEY,
    )


def test_a_fork_across_a_change_of_keys_needs_the_entries_that_made_it():
    a, b = History(4, branch=1).note(), History(4, branch=2).note(signer=STRANGER)
    keys = (KEY, OTHER_KEY)
    lineage = (ONE[0], rotation(STRANGER))
    verdict = check_proven(HeadsOfOneSize(keys, a, b, lineage))
    assert verdict.bound
    refused = [(), lineage[:1], (ONE[1],), (*lineage, ONE[2]), (ONE[0], ONE[2])]
    for missing in refused:
        with pytest.raises(errors.ForkKeyUnproven):
            check_proven(HeadsOfOneSize(keys, a, b, missing))
    assert fork_of_heads(keys, a, b, lineage=lineage) is not None
    assert fork_of_heads(keys, a, b) is None


def test_a_proof_has_one_name():
    a, b = History(4, branch=1), History(4, branch=2)
    data = encode_fork(fork_of_heads(KEY, a.note(), b.note()))
    assert len(fork_digest(data)) == 32
    assert check_fork(data).sentence.startswith(f"The log {ORIGIN} was shown in two histories")
