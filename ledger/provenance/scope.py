"""What of an audit is asked for: one study, one released model, or what happened since a day.

Every rule still looks at the whole log, because what came before decides what was right; only
the telling is limited. What concerns the site as a whole (its log, its keys, a dataset without a
study) is always told."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from ledger.provenance.findings import AuditContext, CheckResult, Scope, verdict_of
from ledger.provenance.kinds import ModelReleased
from ledger.provenance.moments import day_of
from ledger.provenance.sections import Happening, Rejection, Release
from ledger.provenance.spending import DatasetSpending
from ledger.provenance.timeline import Timeline

T = TypeVar("T", Happening, Release)


@dataclass(frozen=True, slots=True)
class Selection:
    """A scope against one log. study: of the scope or of its model; b"" for all.

    end_seq: entries from there on came after the model's release."""

    study: bytes
    model: bytes
    since_us: int
    end_seq: int
    times: dict[int, int]
    studies: dict[int, bytes]

    def has(self, seq: int | None) -> bool:
        """Whether what is said about this entry belongs to what was asked."""
        if seq is None:
            return True
        study = self.studies.get(seq, b"")
        if self.study and study not in (self.study, b""):
            return False
        if self.model and study and seq >= self.end_seq:
            return False
        return self.times.get(seq, self.since_us) >= self.since_us

    def check(self, result: CheckResult) -> tuple[CheckResult, int]:
        """A check with what belongs here, and how many findings do not."""
        kept = tuple(found for found in result.findings if self.has(found.seq))
        left_out = len(result.findings) - len(kept)
        verdict = verdict_of(kept) if result.findings else result.verdict
        return replace(result, findings=kept, verdict=verdict), left_out

    def told(self, happenings: Iterable[T]) -> tuple[T, ...]:
        """Decisions, incidents or releases that belong here."""
        return tuple(x for x in happenings if self.has(x.seq))

    def releases(self, releases: Iterable[Release]) -> tuple[Release, ...]:
        """The released models that were asked for."""
        return tuple(x for x in self.told(releases) if self.model in (b"", x.hash))

    def rejections(self, rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
        """Of the study that was asked for; they are counted over its whole life."""
        return tuple(x for x in rejections if self.study in (b"", x.study))

    def budgets(self, budgets: Iterable[DatasetSpending]) -> tuple[DatasetSpending, ...]:
        """Of the datasets that the study used, with everything that was spent on them: a budget
        is the dataset's, whoever spends it."""
        if not self.study:
            return tuple(budgets)
        return tuple(x for x in budgets if any(y.study == self.study for y in x.studies))


def select(timeline: Timeline, scope: Scope) -> Selection:
    """What a scope means in this log. A model that was never released here selects nothing."""
    study, end_seq = scope.study, timeline.size
    if scope.model:
        released = [x for x in timeline.of(ModelReleased) if x.record.hash == scope.model]
        study = released[-1].record.study if released else scope.model
        end_seq = released[-1].seq + 1 if released else 0
    return Selection(
        study=study,
        model=scope.model,
        since_us=scope.since_us,
        end_seq=end_seq,
        times=timeline.times,
        studies={x.seq: getattr(x.record, "study", b"") for x in timeline.logged},
    )


def words_of(scope: Scope, context: AuditContext) -> str:
    """The scope in a few words; empty where everything was asked for."""
    parts = []
    if scope.study:
        parts.append(context.study_name(scope.study))
    if scope.model:
        parts.append(f"the model {scope.model.hex()[:12]}")
    if scope.since_us:
        parts.append(f"since {day_of(scope.since_us)}")
    return ", ".join(parts)
