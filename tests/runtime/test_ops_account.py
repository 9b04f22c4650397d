"""What a command about budgets holds of a ledger says of budgets what the whole ledger says."""

from pathlib import Path

from prov_stories import START_US, Story, Told, digest, write
from prov_teller import plain_story
from test_prov_kinds import ONE_OF_EACH

from ledger.log import Entry, LogReader
from ledger.provenance import kinds
from p2pfl.privacy.budget import fold
from p2pfl.runtime.commands.budgets import accepted, account, budget_events, released
from p2pfl.runtime.commands.lost_data import names_earlier_gap
from p2pfl.runtime.commands.overlap import used_datasets


def entries_of(home: Path, story: Story) -> list[Entry]:
    reader = LogReader.open(write(home, story))
    try:
        return list(reader.entries())
    finally:
        reader.close()


def test_no_kind_that_speaks_of_budgets_is_left_out(tmp_path: Path) -> None:
    told = (Told(record, START_US + number) for number, record in enumerate(ONE_OF_EACH))
    everything = entries_of(tmp_path, Story(tuple(told)))
    held = account(everything).entries
    assert list(budget_events(held)) == list(budget_events(everything))
    assert accepted(held, digest("d")) == accepted(everything, digest("d"))
    assert released(held, digest("d")) == released(everything, digest("d"))
    assert used_datasets(held) == used_datasets(everything)
    assert names_earlier_gap(held) == names_earlier_gap(everything)
    assert {entry.kind for entry in everything} - {entry.kind for entry in held} > {
        kinds.UpdateReceived.KIND,
        kinds.AggDone.KIND,
        kinds.PeerHead.KIND,
    }


def test_of_a_study_little_is_held_and_nothing_is_missed(tmp_path: Path) -> None:
    everything = entries_of(tmp_path, plain_story())
    held = account(iter(everything))
    assert held.newest_us == everything[-1].time_us >= START_US
    assert len(held.entries) < len(everything) / 2
    datasets = fold(budget_events(everything))
    assert fold(budget_events(held.entries)) == datasets
    assert datasets
    for ds in datasets:
        assert released(held.entries, ds) == released(everything, ds)
        assert accepted(held.entries, ds) == accepted(everything, ds)
    assert used_datasets(held.entries) == used_datasets(everything)
