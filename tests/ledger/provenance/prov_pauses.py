"""Ways to tell a pause wrongly, and what the audit must say."""

from prov_stories import PEERS
from prov_wrongs import STUDY, Wrong, before_round_1

from ledger.provenance.kinds import (
    StudyApproved,
    StudyAway,
    StudyPaused,
    StudyProposed,
    StudyResumed,
    StudyStopped,
)

PAUSES: dict[str, Wrong] = {
    "trained while the study was paused": Wrong(
        "pause.trained", before_round_1(StudyPaused(STUDY, 1, "why", 5))
    ),
    "trained after the study was stopped": Wrong(
        "pause.trained",
        lambda s: before_round_1(StudyResumed(STUDY, 1, "", 6))(
            before_round_1(StudyStopped(STUDY, 1, "why", 5))(s)
        ),
    ),
    "trained and published while the site was away": Wrong(
        "away.acted", before_round_1(StudyAway(STUDY, "maintenance"))
    ),
    "went on by an older word after a newer one": Wrong(
        "pause.order",
        lambda s: s.add(StudyPaused(STUDY, 9, "why", 5)).add(StudyResumed(STUDY, 9, "", 4)),
    ),
    "paused another site's study": Wrong(
        "pause.foreign",
        lambda s: s.insert(s.place(StudyApproved), StudyProposed(STUDY, PEERS[0])).add(
            StudyPaused(STUDY, 9, "why", -1)
        ),
    ),
}
