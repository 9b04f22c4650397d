"""A dataset's budget is what its ledger says, whoever asks and however often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.privacy.budget import (
    Accepted,
    Budget,
    BudgetEvent,
    Closed,
    DatasetAdded,
    Reserved,
    Revoked,
    Spent,
    Unknown,
    check_reservation,
    fold,
    refuse_or_next,
)
from p2pfl.privacy.errors import (
    BudgetExhausted,
    DatasetUnavailable,
    NothingReserved,
    RoundsExhausted,
    TableRefused,
)

DATA, OTHER = b"d" * 32, b"o" * 32
STUDY, SECOND = b"s" * 32, b"t" * 32
ADDED = DatasetAdded(DATA, cap_u=3_000_000, delta="1e-3")
TABLE = (0, 1_000_000, 1_500_000, 1_900_000)
APPROVED = Reserved(DATA, STUDY, TABLE)


def budget_of(*events: BudgetEvent) -> Budget:
    return fold([ADDED, *events])[DATA]


def test_fresh_dataset_has_its_whole_cap_left() -> None:
    budget = budget_of()
    assert (budget.spent_u, budget.reserved_u, budget.left_u) == (0, 0, 3_000_000)
    assert budget.delta == "1e-3"


def test_approval_reserves_the_whole_planned_spending() -> None:
    budget = budget_of(APPROVED)
    assert (budget.spent_u, budget.reserved_u, budget.left_u) == (0, 1_900_000, 1_100_000)


def test_round_moves_epsilon_from_reserved_to_spent() -> None:
    budget = budget_of(APPROVED, Spent(DATA, STUDY, 1_000_000))
    assert (budget.spent_u, budget.reserved_u, budget.left_u) == (1_000_000, 900_000, 1_100_000)
    assert budget.reservation(STUDY).rounds_spent == 1


def test_unused_reservation_returns_when_the_study_closes() -> None:
    budget = budget_of(APPROVED, Spent(DATA, STUDY, 1_000_000), Closed(DATA, STUDY))
    assert (budget.spent_u, budget.reserved_u, budget.left_u) == (1_000_000, 0, 2_000_000)


def test_unknown_spending_is_the_whole_cap_until_it_is_decided() -> None:
    lost = (APPROVED, Spent(DATA, STUDY, 1_000_000), Closed(DATA, STUDY), Unknown(DATA))
    assert budget_of(*lost).left_u == 0
    assert budget_of(*lost, Unknown(DATA)).known_u == 1_000_000
    decided = budget_of(*lost, Accepted(DATA, 1_700_000))
    assert (decided.spent_u, decided.left_u, decided.known_u) == (1_700_000, 1_300_000, -1)


def test_no_decision_takes_back_what_is_on_record() -> None:
    spent = (APPROVED, Spent(DATA, STUDY, 1_000_000))
    assert budget_of(*spent, Accepted(DATA, 5)).spent_u == 1_000_000
    assert budget_of(*spent, Unknown(DATA), Accepted(DATA, 5)).spent_u == 1_000_000


def test_second_study_counts_on_top_of_the_first() -> None:
    on_top = Reserved(DATA, SECOND, (1_900_000, 2_300_000, 2_600_000))
    budget = budget_of(APPROVED, on_top)
    assert (budget.spent_u, budget.reserved_u, budget.left_u) == (0, 2_600_000, 400_000)
    assert refuse_or_next(budget, STUDY, 0) == 1_000_000
    assert refuse_or_next(budget, SECOND, 0) == 2_300_000


def test_spent_is_the_largest_total_on_record() -> None:
    late = budget_of(APPROVED, Spent(DATA, STUDY, 1_500_000), Spent(DATA, STUDY, 1_000_000))
    assert late.spent_u == 1_500_000


def test_next_round_costs_the_next_row() -> None:
    assert refuse_or_next(budget_of(APPROVED), STUDY, 0) == 1_000_000
    assert refuse_or_next(budget_of(APPROVED), STUDY, 2) == 1_900_000


def test_rounds_on_record_count_even_if_the_caller_forgot_them() -> None:
    budget = budget_of(APPROVED, Spent(DATA, STUDY, 1_000_000), Spent(DATA, STUDY, 1_500_000))
    assert refuse_or_next(budget, STUDY, 0) == 1_900_000


def test_round_past_the_cap_is_refused_with_what_is_left() -> None:
    small = DatasetAdded(DATA, cap_u=1_200_000, delta="1e-3")
    budget = fold([small, APPROVED, Spent(DATA, STUDY, 1_000_000)])[DATA]
    with pytest.raises(BudgetExhausted, match=r"ε 0\.500000 needed, 0\.200000 left") as refused:
        refuse_or_next(budget, STUDY, 1)
    assert (refused.value.left_u, refused.value.needed_u) == (200_000, 500_000)


def test_round_that_uses_the_cap_up_exactly_is_allowed() -> None:
    exact = DatasetAdded(DATA, cap_u=1_900_000, delta="1e-3")
    budget = fold([exact, APPROVED])[DATA]
    assert refuse_or_next(budget, STUDY, 2) == 1_900_000


def test_round_past_the_approved_plan_is_refused() -> None:
    with pytest.raises(RoundsExhausted, match="all 3"):
        refuse_or_next(budget_of(APPROVED), STUDY, 3)


def test_study_without_approval_may_not_train() -> None:
    with pytest.raises(NothingReserved):
        refuse_or_next(budget_of(), STUDY, 0)


def test_closed_study_may_not_train() -> None:
    with pytest.raises(NothingReserved):
        refuse_or_next(budget_of(APPROVED, Closed(DATA, STUDY)), STUDY, 0)


def test_withdrawn_dataset_returns_reservations_and_trains_no_more() -> None:
    budget = budget_of(APPROVED, Spent(DATA, STUDY, 1_000_000), Revoked(DATA))
    assert (budget.spent_u, budget.reserved_u) == (1_000_000, 0)
    with pytest.raises(DatasetUnavailable, match="withdrawn"):
        refuse_or_next(budget, STUDY, 1)
    with pytest.raises(DatasetUnavailable, match="withdrawn"):
        check_reservation(budget, TABLE)


def test_round_recorded_after_closing_still_counts() -> None:
    budget = budget_of(APPROVED, Closed(DATA, STUDY), Spent(DATA, STUDY, 1_000_000))
    assert budget.spent_u == 1_000_000
    assert not budget.reservation(STUDY).open


def test_round_nobody_approved_still_counts() -> None:
    assert budget_of(Spent(DATA, STUDY, 700_000)).spent_u == 700_000


def test_study_approved_again_starts_a_new_claim() -> None:
    again = Reserved(DATA, STUDY, (1_000_000, 1_600_000))
    budget = budget_of(APPROVED, Spent(DATA, STUDY, 1_000_000), Closed(DATA, STUDY), again)
    assert refuse_or_next(budget, STUDY, 0) == 1_600_000
    assert (budget.reserved_u, budget.left_u) == (600_000, 1_400_000)


def test_second_approval_of_an_open_study_replaces_the_first() -> None:
    budget = budget_of(APPROVED, Reserved(DATA, STUDY, (0, 500_000)))
    assert budget.reserved_u == 500_000


def test_budgets_of_datasets_are_separate() -> None:
    budgets = fold([ADDED, DatasetAdded(OTHER, 1_000_000, "1e-5"), APPROVED])
    assert budgets[OTHER].left_u == 1_000_000
    assert budgets[DATA].left_u == 1_100_000


def test_study_that_does_not_fit_is_refused_before_it_is_approved() -> None:
    budget = budget_of(APPROVED)
    check_reservation(budget, (1_900_000, 3_000_000))
    with pytest.raises(BudgetExhausted) as refused:
        check_reservation(budget, (1_900_000, 3_000_001))
    assert (refused.value.left_u, refused.value.needed_u) == (1_100_000, 1_100_001)


def test_more_on_record_than_the_cap_leaves_nothing_and_not_less() -> None:
    assert budget_of(Spent(DATA, STUDY, 9_000_000)).left_u == 0


def test_dataset_registered_twice_is_refused() -> None:
    with pytest.raises(DatasetUnavailable, match="twice"):
        fold([ADDED, ADDED])


def test_event_on_an_unknown_dataset_is_refused() -> None:
    with pytest.raises(DatasetUnavailable, match="never registered"):
        fold([APPROVED])


@pytest.mark.parametrize("table", [(), (-1, 0), (0, 2, 1)])
def test_table_that_bounds_nothing_is_refused(table: tuple[int, ...]) -> None:
    with pytest.raises(TableRefused):
        fold([ADDED, Reserved(DATA, STUDY, table)])
    with pytest.raises(TableRefused):
        check_reservation(budget_of(), table)


# --- laws over any history ------------------------------------------------------------------------

tables = st.lists(st.integers(0, 1_000_000), min_size=1, max_size=6).map(
    lambda steps: tuple(sum(steps[: i + 1]) for i in range(len(steps)))
)
studies = st.sampled_from([STUDY, SECOND])
histories = st.lists(
    st.one_of(
        st.builds(Reserved, st.just(DATA), studies, tables),
        st.builds(Spent, st.just(DATA), studies, st.integers(0, 4_000_000)),
        st.builds(Closed, st.just(DATA), studies),
    ),
    max_size=12,
)


@given(histories, st.integers(0, 12))
def test_folding_in_two_parts_gives_the_same_budget(events: list[BudgetEvent], cut: int) -> None:
    whole = fold([ADDED, *events])
    assert fold(events[cut:], start=fold([ADDED, *events[:cut]])) == whole


@given(histories)
def test_spending_never_shrinks_and_the_parts_add_up(events: list[BudgetEvent]) -> None:
    before = 0
    for length in range(len(events) + 1):
        budget = budget_of(*events[:length])
        assert budget.spent_u >= before
        assert budget.left_u >= 0
        total_u = budget.spent_u + budget.reserved_u + budget.left_u
        assert total_u == max(budget.cap_u, budget.spent_u + budget.reserved_u)
        before = budget.spent_u


@given(histories)
def test_closing_every_study_leaves_only_what_was_spent(events: list[BudgetEvent]) -> None:
    budget = budget_of(*events, Closed(DATA, STUDY), Closed(DATA, SECOND))
    assert budget.reserved_u == 0
    assert budget.left_u == max(0, budget.cap_u - budget.spent_u)


@given(histories, studies)
def test_allowed_round_never_passes_the_cap(events: list[BudgetEvent], study: bytes) -> None:
    budget = budget_of(*events)
    try:
        total_u = refuse_or_next(budget, study, 0)
    except (BudgetExhausted, RoundsExhausted, NothingReserved):
        return
    assert budget.spent_u <= total_u <= budget.cap_u
