"""Entries: what is signed, chained and refused."""

from hashlib import sha256

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER, WITNESS, draft

from ledger.log import Draft, Signer, errors, log_id_of, origin_of, parse_entry, verify_entry
from ledger.log.dm1 import BYTES_MAX, decode, encode
from ledger.log.entries import (
    ENTRY_DOMAIN,
    RAW_BYTES_MAX,
    sign_entry,
    split_raw,
    verify_link,
)
from ledger.log.genesis import genesis_draft, identity_from_body, parse_genesis


def bindings(**changes):
    arguments = {
        "deployment": "tests",
        "identity": IDENTITY,
        "log_pk": LOG_KEY.public_key,
        "witness_pk": WITNESS.public_key,
        "nonce": bytes(32),
    }
    return genesis_draft(**(arguments | changes))


OWNER = identity_from_body(bindings().body)


def signed(what=None, *, seq=1, prev=bytes(32), time_us=NOW_US, log=LOG_KEY, owner=OWNER):
    return sign_entry(what or draft(), identity=owner, seq=seq, prev=prev, time_us=time_us, log=log)


def resigned(**changes):
    """An entry whose body was changed before it was signed."""
    body = decode(split_raw(signed())[0])
    fields = {key: value for key, value in (body | changes).items() if value is not ...}
    packed = msgpack.packb(dict(sorted(fields.items())))
    return msgpack.packb([packed, OWNER.key_id, LOG_KEY.sign(ENTRY_DOMAIN + packed)])


def test_the_formulas_of_the_format():
    log_id = sha256(b"dl-ledger/log-id/v1\0" + IDENTITY.public_key + bytes(32)).digest()
    assert log_id_of(IDENTITY.public_key, bytes(32)) == log_id == OWNER.log_id
    assert origin_of("tests", log_id) == f"tests/dl-ledger/{log_id.hex()}" == OWNER.origin
    key_id = sha256(OWNER.origin.encode() + b"\n\x01" + LOG_KEY.public_key).digest()[:4]
    raw = signed()
    entry = parse_entry(raw)
    body = encode(
        {
            "v": 1,
            "l": log_id,
            "s": 1,
            "p": bytes(32),
            "t": NOW_US,
            "k": "train.done",
            "a": "node",
            "b": {"number": 0},
        }
    )
    assert raw == msgpack.packb([body, key_id, LOG_KEY.sign(b"dl-ledger/entry/v1\0" + body)])
    assert entry.leaf == sha256(b"\0" + raw).digest()
    assert (entry.seq, entry.kind, entry.actor, entry.body) == (
        1,
        "train.done",
        "node",
        {"number": 0},
    )
    verify_entry(entry, OWNER)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.binary(max_size=70_000))
def test_what_is_signed_is_what_is_parsed(seq, time_us, data):
    what = Draft("policy.changed", "data-manager", {"hash": data})
    try:
        raw = signed(what, seq=seq, time_us=time_us)
    except errors.TooManyBytes:
        assert len(data) > BYTES_MAX - 300
        return
    entry = parse_entry(raw)
    assert (entry.seq, entry.time_us, entry.body["hash"]) == (seq, time_us, data)
    verify_entry(entry, OWNER)


@given(st.data())
def test_no_changed_byte_of_an_entry_is_accepted(data):
    raw = bytearray(signed())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((errors.EntryError, errors.EncodingError)):
        verify_entry(parse_entry(bytes(raw)), OWNER)


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_name(data):
    with pytest.raises((errors.EntryError, errors.EncodingError)):
        parse_entry(data)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x93",
        signed()[:-64],
        signed() + b"\0",
        msgpack.packb([split_raw(signed())[0], b"\1\2\3\4"]),
        msgpack.packb([split_raw(signed())[0], b"\1\2\3", bytes(64)]),
        msgpack.packb([split_raw(signed())[0], b"\1\2\3\4", b""]),
        b"\x93\xc5" + len(split_raw(signed())[0]).to_bytes(2, "big") + signed()[3:],
    ],
)
def test_a_stripped_or_repacked_entry_is_malformed(raw):
    with pytest.raises(errors.EntryMalformed):
        parse_entry(raw)


def test_a_large_entry_is_refused_before_it_is_parsed():
    with pytest.raises(errors.TooManyBytes):
        parse_entry(b"\xc1" * (RAW_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"s": -1},
        {"s": "1"},
        {"s": False},
        {"t": -1},
        {"k": "Train Done"},
        {"k": b"train.done"},
        {"k": "a.b.c.d"},
        {"a": "Dr. Jane Doe, tel. 555"},
        {"a": ""},
        {"a": ...},
        {"b": []},
        {"l": b"short"},
        {"p": b"short"},
        {"z": 1},
    ],
)
def test_a_body_with_wrong_fields_is_refused_though_it_is_signed(changes):
    with pytest.raises(errors.EntryFieldWrong):
        parse_entry(resigned(**changes))


def test_a_body_that_is_no_map_is_refused():
    with pytest.raises(errors.EntryFieldWrong):
        parse_entry(msgpack.packb([encode([1]), b"\1\2\3\4", bytes(64)]))


def test_entries_by_others_are_refused():
    entry = parse_entry(signed())
    other = identity_from_body(bindings(nonce=b"\1" * 32).body)
    with pytest.raises(errors.ForeignEntry):
        verify_entry(entry, other)
    with pytest.raises(errors.EntrySignatureInvalid):
        verify_entry(parse_entry(signed(log=STRANGER)), OWNER)
    with pytest.raises(errors.EntryKeyUnknown):
        verify_entry(parse_entry(signed(owner=OWNER.with_key(STRANGER.public_key, 1))), OWNER)


def test_a_link_is_number_and_previous_leaf():
    entry = parse_entry(signed())
    verify_link(entry, 1, bytes(32))
    with pytest.raises(errors.SequenceGap):
        verify_link(entry, 2, bytes(32))
    with pytest.raises(errors.ChainBroken):
        verify_link(entry, 1, b"\1" * 32)


@pytest.mark.parametrize(
    ("kind", "actor", "seq", "time_us"),
    [
        ("", "node", 1, 1),
        ("train.done", "no space", 1, 1),
        ("train.done", "node", 2**63, 1),
        ("train.done", "node", 1, -1),
    ],
)
def test_a_draft_out_of_bounds_is_never_signed(kind, actor, seq, time_us):
    with pytest.raises(errors.EntryFieldWrong):
        signed(Draft(kind, actor, {}), seq=seq, time_us=time_us)


def test_genesis_binds_three_different_good_keys():
    with pytest.raises(errors.GenesisInvalid):
        bindings(witness_pk=LOG_KEY.public_key)
    with pytest.raises(errors.GenesisInvalid):
        bindings(nonce=b"short")
    with pytest.raises(errors.KeyLowOrder):
        bindings(witness_pk=bytes(32))


@pytest.mark.parametrize("deployment", ["", "a b", "a+b", "A", "-a", "a\n", "x" * 64])
def test_a_deployment_that_does_not_fit_into_an_origin_is_refused(deployment):
    with pytest.raises(errors.GenesisInvalid):
        bindings(deployment=deployment)


def genesis(body=None, **arguments):
    what = Draft("log.genesis", "node", bindings().body if body is None else body)
    return signed(what, **({"seq": 0} | arguments))


def test_a_genesis_entry_says_whose_log_it_is():
    assert parse_genesis(genesis()) == OWNER


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (signed(seq=0), errors.GenesisInvalid),
        (genesis({}), errors.GenesisInvalid),
        (genesis(bindings().body | {"nonce": b""}), errors.GenesisInvalid),
        (genesis(bindings().body | {"deployment": "other"}), errors.GenesisInvalid),
        (genesis(bindings().body | {"extra": 1}), errors.GenesisInvalid),
        (genesis(bindings().body | {"log_pk": bytes(32)}), errors.GenesisInvalid),
        (genesis(seq=1), errors.SequenceGap),
        (genesis(prev=b"\1" * 32), errors.ChainBroken),
        (genesis(log=STRANGER), errors.EntrySignatureInvalid),
        (genesis(bindings(identity=Signer(b"\x07" * 32)).body), errors.ForeignEntry),
    ],
)
def test_a_wrong_genesis_entry_is_refused(raw, error):
    with pytest.raises(error):
        parse_genesis(raw)
