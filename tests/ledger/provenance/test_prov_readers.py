"""Every kind of entry has its readers, as the design says; a new kind cannot forget them."""

import pytest

from ledger.provenance.kinds import CLASSES, GENESIS_KIND
from ledger.provenance.readers import READERS, Readers, readers_of

FAMILIES = {
    "study": Readers.STUDY,
    "train": Readers.STUDY,
    "update": Readers.STUDY,
    "agg": Readers.STUDY,
    "roster": Readers.EVERYONE,
    "log": Readers.EVERYONE,
    "fork": Readers.EVERYONE,
    "dataset": Readers.SELF,
    "policy": Readers.SELF,
    "audit": Readers.SELF,
}
"""LEDGER.md, Entry kinds: the sentence on readers."""


def test_no_kind_is_without_readers() -> None:
    assert set(READERS) == {*CLASSES, GENESIS_KIND}


@pytest.mark.parametrize("kind", sorted({*CLASSES, GENESIS_KIND}))
def test_the_readers_of_a_kind_are_those_of_its_family(kind: str) -> None:
    assert readers_of(kind) is FAMILIES.get(kind.split(".")[0], readers_of(kind))


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_what_a_study_may_read_names_the_study(kind: str) -> None:
    if readers_of(kind) is Readers.STUDY:
        assert "study" in CLASSES[kind].__dataclass_fields__


def test_a_kind_of_the_future_is_read_by_nobody_else() -> None:
    assert readers_of("study.dreamt") is Readers.SELF
