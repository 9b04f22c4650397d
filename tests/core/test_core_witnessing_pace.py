"""With many members heads are shown seldom, and the newest one is cosigned by everybody."""

from core_witnesses import Hospital, Wires, alarms, note_of, witnessing

from gossip.witness_messages import CosignAnswered, CosignRequested, HeadsHeld, LeavesWanted
from ledger.log.witness import Status
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.pace import head_pace_s
from simulations.memory_ledger import MemoryBook

BUSY_S = 12


def busy(count: int) -> Wires:
    """Everybody records something every half second."""
    wires = Wires(count)
    wires.boot()
    wires.run(2.0)
    for one in wires.all:
        one.wire.clear()
    for _ in range(2 * BUSY_S):
        for one in wires.all:
            wires.record(one)
        wires.run(0.5)
    return wires


def heard_per_site(wires: Wires) -> float:
    heard = [m for one in wires.all for m in one.wire if isinstance(m, CosignRequested)]
    return len(heard) / len(wires.all)


def cosigned(one: Hospital) -> int:
    """How many sites cosigned the newest own head."""
    lines = one.book.own_cosigned.get(len(one.ledger.entries), ())
    return len({line.split()[1] for line in lines})


def test_heads_come_more_seldom_with_more_members_and_all_are_cosigned_in_the_end() -> None:
    few, many = busy(3), busy(7)
    assert heard_per_site(few) <= 2 * (BUSY_S / head_pace_s(3) + 2)
    assert heard_per_site(many) <= 6 * (BUSY_S / head_pace_s(7) + 2)
    many.run(2 * head_pace_s(7))
    for one in many.all:
        assert cosigned(one) == 6
        log_id = one.ledger.identity.log_id
        mirrored = [o.book.mirrored_size(log_id) for o in many.all if o is not one]
        assert mirrored == [len(one.ledger.entries)] * 6
    assert alarms(many) == []


def test_a_slow_witness_is_asked_once_until_it_answers() -> None:
    wires = Wires(2)
    owner, witness = wires.all
    process = witnessing(wires, owner, MemoryBook())
    process.begin(wires.now_s, must_ask=False)

    def asked(now_s: float, given: terms.WitnessInput) -> list[CosignRequested]:
        outputs = process.handle(now_s, given)
        told = [output.message for output in outputs if isinstance(output, terms.Tell)]
        return [message for message in told if isinstance(message, CosignRequested)]

    (first,) = asked(wires.now_s, terms.Met(witness.site.id))
    shown = owner.ledger.checkpoint
    for second in range(1, int(terms.TERMS.again_s)):
        owner.ledger.append([note_of(second)], (), int(wires.now_s * 1e6))
        assert asked(wires.now_s + second, terms.OwnGrew()) == []
    refused = CosignAnswered(shown.origin, shown.size, shown.root, Status.OTHER_SIZE, b"0\n")
    assert asked(wires.now_s + 4.5, terms.Said(witness.site.id, refused)) == []
    assert len(asked(wires.now_s + 10.0, terms.Tick())) == 1
    assert first.leaves_from == 0


def test_a_member_that_never_answers_is_asked_ever_more_seldom() -> None:
    wires = Wires(2)
    owner, silent = wires.all
    book = MemoryBook()
    process = witnessing(wires, owner, book)
    process.begin(wires.now_s, must_ask=False)
    process.handle(wires.now_s, terms.Met(silent.site.id))
    process.handle(wires.now_s, terms.HeadSeen(silent.ledger.identity.log_id, silent.ledger.note))
    told: list[object] = []
    for second in range(1, 1_200):
        outputs = process.handle(wires.now_s + second, terms.Tick())
        told += [output.message for output in outputs if isinstance(output, terms.Tell)]
    requests = [message for message in told if isinstance(message, CosignRequested)]
    fetches = [message for message in told if isinstance(message, LeavesWanted)]
    assert 6 <= len(requests) <= 16, "every 5, 10, 20 … 160 s"
    assert 6 <= len(fetches) <= 90, "every 1, 2, 4 … 16 s"


def test_two_members_that_hear_each_other_late_do_not_tell_heads_for_ever() -> None:
    wires = Wires(2)
    one, other = wires.all
    process = witnessing(wires, one, MemoryBook())
    process.begin(wires.now_s, must_ask=False)
    process.handle(wires.now_s, terms.Met(other.site.id))
    heads = terms.Said(other.site.id, HeadsHeld((b"",)))
    replies = 0
    for minute in range(5):
        for second in range(0, 60, 6):
            outputs = process.handle(wires.now_s + 6.0 + 60 * minute + second, heads)
            told = [output.message for output in outputs if isinstance(output, terms.Tell)]
            replies += sum(isinstance(message, HeadsHeld) for message in told)
    assert terms.TERMS.replies_burst <= replies <= terms.TERMS.replies_burst + 5
