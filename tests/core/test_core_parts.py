"""Single parts of the core, where a whole world would hide what matters."""

from dataclasses import replace

import pytest
from core_attackers import digest
from core_worlds import PRIVATE, SMALL, Story, approval, begin, started

from gossip.identifiers import SiteId
from gossip.messages import Decision, StudyDecision
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.drafts import DISTANCE_MAX, decimal
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.gathering import Gathering, target_round
from p2pfl.core.history import History, Standing
from p2pfl.core.inbox import Heard, Holding
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.participants import UNKNOWN_STUDIES_MAX, Decisions
from p2pfl.core.phases import Phase
from simulations.scenario import ScenarioTerms, dataset_of

FIVE = ScenarioTerms(sites=5, rounds=20, neighbours_min=3)


def heard(story: Story, sender: SiteId, round_: int, holding: Holding = Holding.ANNOUNCED) -> Heard:
    size = blob_size_bytes(story.manifest.study.parameters)
    model = ModelHash(digest("model", sender, round_))
    leaf = digest("leaf", sender, round_)
    return Heard(
        sender, bytes(32), Round(round_), model, size, round_, leaf, bytes(32), b"", holding
    )


def gathering_of_five(neighbours_min: int = 3) -> tuple[Story, Gathering, list[SiteId]]:
    story = begin(terms=replace(FIVE, neighbours_min=neighbours_min))
    me, *others = [site.id for site in story.sites]
    gathering = Gathering(me, story.manifest, 50)
    gathering.sites_changed(Round(0), dict.fromkeys(others, 50))
    gathering.connected = frozenset(others)
    return story, gathering, others


def arrives(story: Story, gathering: Gathering, current: int, sender: SiteId, round_: int) -> None:
    gathering.announce(Round(current), heard(story, sender, round_))
    gathering.obtained(Round(round_), sender)


# -- gathering ---------------------------------------------------------------------------------


def test_a_newer_update_stands_in_for_one_that_nobody_offers_any_more() -> None:
    story, gathering, (one, two, three, _) = gathering_of_five()
    current = Round(4)
    gathering.enter(current)
    arrives(story, gathering, current, one, 4)
    gathering.announce(current, heard(story, three, 4))
    gathering.failed(current, three)
    arrives(story, gathering, current, two, 5)
    arrives(story, gathering, current, three, 5)
    gathering.deadline(current)
    found = {s: h.round for s, h in gathering.ready(current).items()}
    assert found == {one: 4, two: 5}, "what could not be fetched may come yet"
    gathering.deadline(current)
    assert {s: h.round for s, h in gathering.ready(current).items()} == {one: 4, two: 5, three: 5}
    gathering.enter(Round(5))
    assert {s: h.round for s, h in gathering.ready(Round(5)).items()} == {two: 5, three: 5}


def test_nothing_stands_in_where_enough_were_heard() -> None:
    story, gathering, (one, two, three, four) = gathering_of_five()
    for sender in (one, two, three):
        arrives(story, gathering, 4, sender, 4)
    arrives(story, gathering, 4, four, 5)
    gathering.deadline(Round(4))
    gathering.deadline(Round(4))
    assert set(gathering.ready(Round(4))) == {one, two, three}


def test_a_site_that_went_on_is_not_waited_for() -> None:
    story, gathering, (one, two, three, four) = gathering_of_five()
    for sender in (one, two, three):
        arrives(story, gathering, 4, sender, 4)
    assert not gathering.is_settled(Round(4))
    arrives(story, gathering, 4, four, 5)
    assert gathering.is_settled(Round(4)), "it told of no update for this round, and will not"


def test_whoever_is_left_behind_by_a_round_takes_what_the_others_have() -> None:
    """Not only after the deadline: nobody offers that round any more, so nobody is waited for."""
    story, gathering, (one, two, three, four) = gathering_of_five()
    gathering.enter(Round(4))
    arrives(story, gathering, 4, one, 4)
    for sender, round_ in ((two, 5), (three, 6), (four, 6)):
        gathering.announce(Round(4), heard(story, sender, round_))
    gathering.obtained(Round(5), two)
    assert gathering.is_settled(Round(4))
    assert gathering.is_short(Round(4))
    gathering.obtain_far(Round(4))
    gathering.obtained(Round(6), three)
    assert {s: h.round for s, h in gathering.ready(Round(4)).items()} == {one: 4, two: 5, three: 6}


def test_a_catch_up_waits_for_everyone_ahead_and_no_longer_than_a_deadline() -> None:
    story, gathering, (one, two, three, four) = gathering_of_five()
    for sender in (one, two, three, four):
        gathering.announce(Round(0), heard(story, sender, 9))
    for sender in (one, two, three):
        gathering.obtained(Round(9), sender)
    assert not gathering.catch_up(Round(0))
    gathering.deadline(Round(0))
    assert {h.sender for h in gathering.catch_up(Round(0))} == {one, two, three}


def test_one_liar_does_not_draw_a_site_away_from_a_neighbour_that_keeps_pace() -> None:
    """Where one neighbour is enough, one that says it is far ahead would be all that counts."""
    story, gathering, (liar, honest, second, third) = gathering_of_five(neighbours_min=1)
    arrives(story, gathering, 4, liar, 18)
    assert gathering.catch_up(Round(4)), "nobody else is heard of"
    arrives(story, gathering, 4, honest, 4)
    assert not gathering.ahead(Round(4))
    arrives(story, gathering, 4, second, 9)
    assert len(gathering.ahead(Round(4))) == 2, "more of them went on than keep pace"
    arrives(story, gathering, 4, third, 5)
    assert not gathering.ahead(Round(4))
    gathering.connected -= {honest}
    assert len(gathering.ahead(Round(4))) == 2, "who cannot be reached keeps no pace"


def test_a_catch_up_uses_what_is_on_disk_though_neighbours_went_on() -> None:
    story, gathering, others = gathering_of_five()
    for sender in others:
        gathering.announce(Round(0), heard(story, sender, 9))
    for sender in others:
        gathering.announce(Round(0), heard(story, sender, 10))
        gathering.obtained(Round(9), sender)
    inputs = gathering.catch_up(Round(0))
    assert {h.round for h in inputs} == {9}
    assert target_round(inputs) == 8


def test_what_arrives_after_its_sender_left_is_forgotten() -> None:
    story, gathering, others = gathering_of_five()
    gathering.announce(Round(0), heard(story, others[0], 0))
    gathering.sites_changed(Round(0), dict.fromkeys(others[1:], 50))
    gathering.obtained(Round(0), others[0])
    gathering.failed(Round(0), others[0])
    assert gathering.rejected(Round(0), others[0]) is None
    assert gathering.held == 0


# -- decisions ---------------------------------------------------------------------------------


def test_a_forgotten_decision_of_one_site_leaves_those_of_others() -> None:
    decisions, one, two = Decisions(), SiteId(digest(1)), SiteId(digest(2))
    studies = [digest("study", n) for n in range(UNKNOWN_STUDIES_MAX + 1)]
    first = StudyDecision(studies[0], Decision.APPROVED, 50, 0, bytes(32), 0)
    decisions.take(two, first, frozenset())
    for seq, study in enumerate(studies):
        message = StudyDecision(study, Decision.APPROVED, 50, seq, bytes(32), 0)
        decisions.take(one, message, frozenset())
    assert set(decisions.approved(StudyId(studies[0]))) == {two}


# -- numbers on record -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-300, "0"),
        (0.123456789, "0.123457"),
        (3e50, "3e+50"),
        (float("inf"), "1e+99"),
        (float("nan"), "1e+99"),
    ],
)
def test_any_distance_fits_the_ledger(value: float, text: str) -> None:
    assert decimal(value) == text
    kinds.ModelReleased(bytes(32), 0, bytes(32), decimal(value), 3)


# -- the fold ----------------------------------------------------------------------------------


def test_an_entry_counts_once_however_often_it_is_told() -> None:
    story = started()
    assert story.completes()
    entries = story.sites[0].ledger.entries
    once, twice = History(entries), History([*entries, *entries])
    assert once.study(story.study) == twice.study(story.study)
    assert once.datasets == twice.datasets


def test_revoking_data_that_was_never_registered_means_nothing() -> None:
    story = begin()
    site = story.sites[0]
    site.record(kinds.DatasetRevoked(digest("unknown"), "x").draft("data-owner"), now_s=0.0)
    site.record(kinds.StudyRefused(story.study, "x").draft("data-owner"), now_s=0.0)
    history = History(site.ledger.entries)
    assert [d.revoked for d in history.datasets.values()] == [False]
    assert history.study(story.study).standing is Standing.REFUSED


def test_only_running_approvals_of_a_dataset_reserve_its_budget() -> None:
    story = begin(terms=SMALL)
    site = story.sites[0]
    story.approve(site)
    history = History(site.ledger.entries)
    (ds,) = history.datasets
    assert history.reserved_u(ds) == 1_000_000
    site.record(kinds.StudyRefused(digest("another"), "x").draft("data-owner"), now_s=0.0)
    other = approval(site, story.manifest, story.seed, PRIVATE)
    body = {**other.body, "study": digest("third"), "ds": digest("other data")}
    site.record(type(other)(other.kind, other.actor, body), now_s=0.0)
    assert History(site.ledger.entries).reserved_u(ds) == 1_000_000


def test_what_is_neither_study_nor_data_nor_peer_leaves_the_fold_as_it_is() -> None:
    story = begin()
    site = story.sites[0]
    before = History(site.ledger.entries)
    site.record(kinds.NodeOfflineStart(3).draft("node"), now_s=story.world.now_s)
    after = History(site.ledger.entries)
    assert (after.studies, after.datasets) == (before.studies, before.datasets)
    assert after.size == before.size + 1


# -- the node ----------------------------------------------------------------------------------


def test_a_manifest_stored_by_a_persons_command_is_offered() -> None:
    story = begin()
    proposer = story.sites[0]
    proposer.disk.manifests.clear()
    story.boot(proposer)
    story.wait(0.01)
    kept = ev.ManifestKept(story.manifest, proposer.id)
    effects = proposer.core.handle(story.world.now_s, kept)
    assert [e.key for e in effects if isinstance(e, fx.Offer)] == [f"proposal/{story.study.hex()}"]


def test_a_study_that_does_not_name_this_site_is_not_run() -> None:
    story = begin()
    site = story.sites[0]
    known = site.id.hex()
    stranger = known[:-1] + ("0" if known[-1] != "0" else "1")
    manifest = parse_manifest(story.manifest.raw.replace(known.encode(), stranger.encode()))
    site.disk.manifests.clear()
    site.disk.manifests[manifest.study_id] = manifest
    site.record(approval(site, manifest, story.seed, PRIVATE), now_s=0.0)
    story.boot(site)
    story.wait(0.01)
    assert not site.core.runs


def test_blobs_are_read_by_those_whom_the_study_names_and_others_get_nothing() -> None:
    story = started()
    assert story.completes()
    site, reader = story.sites[0], story.sites[1].id
    initial = story.manifest.study.initial_model
    assert site.core.may_read(reader, initial)
    assert not site.core.may_read(SiteId(digest("stranger")), initial)
    assert not site.core.may_read(reader, digest("unknown blob"))


def test_an_approval_of_unknown_data_is_revoked_at_once() -> None:
    story = begin()
    site = story.sites[0]
    draft = approval(site, story.manifest, story.seed, PRIVATE)
    body = {**draft.body, "ds": digest("unknown data")}
    site.record(type(draft)(draft.kind, draft.actor, body), now_s=0.0)
    story.boot(site)
    story.wait(0.1)
    assert story.past(site).standing is Standing.REVOKED
    assert not site.core.runs


def test_a_revoked_dataset_leaves_studies_on_other_data_alone() -> None:
    story = started()
    site = story.sites[0]
    story.world.command(site, kinds.DatasetRevoked(digest("x"), "y").draft("data-owner"))
    assert story.completes()


def test_data_that_is_revoked_after_the_end_is_offered_to_nobody_any_more() -> None:
    story = started()
    site = story.sites[0]
    assert story.completes()
    newest = story.past(site).published[Round(2)].model
    assert site.core.may_read(story.sites[1].id, newest)
    revoked = kinds.DatasetRevoked(dataset_of(story.seed, site), "owner-withdrew")
    story.world.command(site, revoked.draft("data-owner"))
    story.wait(0.1)
    assert not site.core.may_read(story.sites[1].id, newest)
    assert story.past(site).is_complete
    story.world.crash(site)
    story.boot(site)
    story.wait(0.1)
    assert story.study not in site.core.runs
    assert not site.core.may_read(story.sites[1].id, newest)


def test_a_wrong_model_or_a_nameless_process_ends_the_study_here() -> None:
    for parameters, code_hash in ((7, bytes(32)), (6, b"")):
        story = started()
        site = story.sites[0]
        story.wait(0.01)
        opened = ev.TrainingOpened(story.study, parameters, code_hash, bytes(32))
        site.core.handle(story.world.now_s, opened)
        run = site.core.runs[story.study]
        assert run.phase is Phase.LEAVING
        assert not site.core.handle(story.world.now_s, opened), "what came too late means nothing"


def test_a_training_process_that_keeps_failing_ends_the_study_here() -> None:
    story = started()
    site, study = story.sites[0], story.study
    story.wait(0.01)
    failed = ev.TrainingFailed(study, "crashed", "the process was killed")
    timers = []
    for _ in range(4):
        effects = site.core.handle(story.world.now_s, failed)
        timers += [e.at_s - story.world.now_s for e in effects if isinstance(e, fx.SetTimer)]
        site.core.handle(story.world.now_s, ev.TimerFired(ev.Retry(study)))
    assert [round(seconds) for seconds in timers] == [1, 2, 3]
    assert site.core.runs[study].phase is Phase.LEAVING
    assert not site.core.handle(story.world.now_s, failed)
    assert not site.core.handle(story.world.now_s, ev.TimerFired(ev.Retry(study)))


def test_a_training_process_is_not_needed_for_mixing_and_for_the_release() -> None:
    story = started()
    site, study = story.sites[0], story.study
    run = site.core.runs
    assert story.runs_until(lambda: study in run and run[study].round == 2)
    for _ in range(5):
        site.core.handle(story.world.now_s, ev.TrainingFailed(study, "crashed", "killed"))
    assert story.completes()


def test_averaging_that_refuses_checked_inputs_ends_the_study_here() -> None:
    story = started()
    site, study = story.sites[0], story.study
    run = site.core.runs
    assert story.runs_until(lambda: study in run and run[study].phase is Phase.AVERAGING)
    wrong = ev.AveragingFailed(study, Round(7), "another round")
    assert not site.core.handle(story.world.now_s, wrong)
    failed = ev.AveragingFailed(study, run[study].round, "a model is damaged")
    site.core.handle(story.world.now_s, failed)
    assert run[study].phase is Phase.LEAVING


def test_a_distance_that_cannot_be_measured_again_counts_as_far() -> None:
    story = started()
    site, study = story.sites[0], story.study
    assert story.runs_until(lambda: 2 in story.past(site).averaged)
    story.world.crash(site)
    story.boot(site)
    assert story.runs_until(
        lambda: study in site.core.runs and site.core.runs[study].phase is Phase.FINISHING
    )
    failed = ev.AveragingFailed(study, Round(2), "a model is gone")
    for effect in site.core.handle(story.world.now_s, failed):
        for outgoing in site.perform(effect, story.world.now_s):
            if outgoing.event is not None:
                story.world.submit(site, outgoing.event, 0.0)
    assert story.completes()
    (released,) = story.records(site, kinds.ModelReleased)
    assert float(released.distance) == DISTANCE_MAX


def test_a_clock_that_is_set_back_does_not_silence_the_own_head() -> None:
    story = started()
    site = story.sites[0]
    story.wait(0.01)
    noted = ev.Appended((), site.ledger.note)
    earlier = story.world.now_s - 86_400.0
    effects = site.core.handle(earlier, noted)
    assert [e.key for e in effects if isinstance(e, fx.Offer)] == ["head"]


def test_the_own_head_is_told_at_most_once_a_second() -> None:
    story = begin()
    site = story.sites[0]
    story.boot(site)
    story.wait(0.01)
    now_s, noted = story.world.now_s, ev.Appended((), site.ledger.note)
    effects = [e for _ in range(50) for e in site.core.handle(now_s + 0.1, noted)]
    assert [type(effect) for effect in effects] == [fx.SetTimer]
    due = site.core.handle(now_s + 1.1, ev.TimerFired(ev.HeadDue()))
    assert [e.key for e in due if isinstance(e, fx.Offer)] == ["head"]
