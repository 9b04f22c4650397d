"""The witness rule against public vectors, and its persistence before answering."""

import json
from base64 import b64encode

import pytest
from log_samples import LOG_KEY, STRANGER, WITNESS

from ledger.log import Checkpoint, KeyType, Status, VerifierKey, Witness, cosign, note_sign
from ledger.log.tree import Frontier, leaf_hash, prove_consistency
from ledger.log.witness import REQUEST_BYTES_MAX

NAME = "example.com/witness"
ORIGIN = "log.example/a"
LEAVES = [leaf_hash(bytes([i])) for i in range(20)]


class MemoryStore:
    """A witness's memory in a dictionary."""

    def __init__(self, *keys):
        self.keys = {key.name: key for key in keys}
        self.heads = {}
        self.notes = []
        self.evidence = []
        self.others = []
        self.interloper = None

    def log_key(self, origin, size):
        return self.keys.get(origin)

    def cosigned(self, origin):
        return self.heads.get(origin)

    def fork_of(self, origin):
        return None

    def note_other(self, request, now_s):
        self.others.append(request)

    def advance(self, old, new, note, line, now_s):
        if self.interloper:
            self.heads[new.origin] = self.interloper
        if self.heads.get(new.origin) != old:
            return False
        self.heads[new.origin] = new
        self.notes.append(note)
        return True

    def keep_refused(self, old, request, data, now_s):
        self.evidence.append((old, data))


def test_public_transcript(vectors):
    data = json.loads((vectors / "notes_and_witness.json").read_text())
    store = MemoryStore(*map(VerifierKey.parse, data["witness_log_vkeys"]))
    # The one log of the transcript whose origin is not the name of its key.
    store.keys["go.sum database tree"] = store.keys["sum.golang.org"]
    witness = Witness(NAME, WITNESS, store)
    assert len(data["witness_transcript"]) == 10
    for step in data["witness_transcript"]:
        answer = witness.answer(step["request"].encode(), 1_800_000_000)
        # litewitness says 403 for an unknown log, the protocol's text and we say 404.
        expected = 404 if "unknown log" in step["assert"] else step["status"]
        assert answer.status == expected, step
        if answer.status == Status.COSIGNED:
            checkpoint = Checkpoint.parse(step["request"].split("\n\n")[1] + "\n")
            assert answer.body == cosign(checkpoint.text, NAME, WITNESS, 1_800_000_000)
            assert store.heads[checkpoint.origin] == checkpoint
        elif "body ==" in step["assert"]:
            assert json.dumps(answer.body.decode()) in step["assert"]
        elif "unknown log" not in step["assert"]:
            assert step["assert"].split('"')[1] in answer.body.decode()


def head(size, leaves=LEAVES):
    frontier = Frontier()
    for leaf in leaves[:size]:
        frontier.append(leaf)
    return Checkpoint(ORIGIN, size, frontier.root())


def node_at(level, index):
    frontier = Frontier()
    for leaf in LEAVES[index << level : (index + 1) << level]:
        frontier.append(leaf)
    return frontier.root()


def request(old, new, proof=(), *, signer=LOG_KEY, text=None):
    lines = [f"old {old}", *(b64encode(node).decode() for node in proof)]
    note = note_sign(text or new.text, ORIGIN, signer)
    return "\n".join(lines).encode() + b"\n\n" + note


@pytest.fixture
def store():
    return MemoryStore(VerifierKey(ORIGIN, KeyType.ED25519, LOG_KEY.public_key))


@pytest.fixture
def witness(store):
    return Witness(NAME, WITNESS, store)


def test_a_growing_log_is_cosigned_step_by_step(witness, store):
    old = 0
    for size in (1, 2, 5, 5, 8, 16, 19):
        proof = prove_consistency(old, size, node_at) if old else ()
        answer = witness.answer(request(old, head(size), proof), size)
        assert answer.status == Status.COSIGNED
        assert store.heads[ORIGIN] == head(size)
        old = size
    assert not store.evidence


def test_a_fork_is_refused_and_kept_as_evidence(witness, store):
    witness.answer(request(0, head(5)), 0)
    forged = request(5, head(8, LEAVES[::-1]), prove_consistency(5, 8, node_at))
    assert witness.answer(forged, 0).status == Status.BAD_PROOF
    same_size = request(5, head(5, LEAVES[::-1]))
    assert witness.answer(same_size, 0).status == Status.OTHER_SIZE
    assert store.evidence == [(head(5), forged), (head(5), same_size)]
    assert store.heads[ORIGIN] == head(5)


def test_a_first_head_needs_no_proof_and_may_have_none(witness, store):
    assert witness.answer(request(0, head(5), LEAVES[:1]), 0).status == Status.BAD_PROOF
    lying_empty = Checkpoint(ORIGIN, 0, bytes(32))
    assert witness.answer(request(0, lying_empty), 0).status == Status.BAD_PROOF
    assert not store.heads
    assert [old for old, _ in store.evidence] == [None, None]
    assert witness.answer(request(0, head(0)), 0).status == Status.COSIGNED
    assert witness.answer(request(0, head(5)), 0).status == Status.COSIGNED
    assert len(store.evidence) == 2


def test_an_older_or_unsigned_head_changes_nothing(witness, store):
    witness.answer(request(0, head(5)), 0)
    assert witness.answer(request(6, head(5)), 0).status == Status.MALFORMED
    assert witness.answer(request(3, head(5)), 0).body == b"5\n"
    unsigned = request(5, head(8), prove_consistency(5, 8, node_at), signer=STRANGER)
    assert witness.answer(unsigned, 0).status == Status.BAD_SIGNATURE
    assert store.heads[ORIGIN] == head(5)


def test_nothing_is_cosigned_if_another_request_came_first(witness, store):
    store.interloper = head(7)
    assert witness.answer(request(0, head(5)), 0).body == b"7\n"


def test_nothing_is_cosigned_if_the_store_forgot(witness, store):
    class Forgetful(MemoryStore):
        def advance(self, old, new, note, line, now_s):
            return False

    forgetful = Forgetful(*store.keys.values())
    assert Witness(NAME, WITNESS, forgetful).answer(request(0, head(5)), 0).body == b"0\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 1",
        b"old 01\n\n",
        b"new 1\n\n" + note_sign(head(5).text, ORIGIN, LOG_KEY),
        b"old 0\nAAAA\n\n" + note_sign(head(5).text, ORIGIN, LOG_KEY),
        b"old 0\n!\n\n" + note_sign(head(5).text, ORIGIN, LOG_KEY),
        b"old 0\n\xff\n\n" + note_sign(head(5).text, ORIGIN, LOG_KEY),
        request(0, head(5), LEAVES[:1] * 64),
        request(0, head(5), text=head(5).text + "extension\n"),
        request(0, head(5), text=head(5).text + "\nmore\n"),
        b"old 0\n\n\xff",
        b"x" * (REQUEST_BYTES_MAX + 1),
    ],
)
def test_malformed_requests_are_refused(witness, store, data):
    assert witness.answer(data, 0).status == Status.MALFORMED
    assert not store.heads
