"""The plain story with a choice of a model that is told wrongly."""

from dataclasses import replace
from typing import Any

from prov_stories import Story
from prov_wrongs import NOBODY, Wrong

from ledger.provenance.kinds import AggDone, ModelKept, ModelReleased


def kept(story: Story, nth: int = 0, **changes: Any) -> ModelKept:
    """An average of the plain story as the model that the site keeps."""
    made = story.record(AggDone, nth)
    record = ModelKept(made.study, made.round, made.out_hash, "0.1", len(made.inputs))
    return replace(record, **changes)


def _keep(story: Story, record: ModelKept) -> Story:
    """Right before the release."""
    return story.insert(story.place(ModelReleased), record)


CHOICES: dict[str, Wrong] = {
    "kept a model that is no average": Wrong(
        "choice.no_average", lambda s: _keep(s, kept(s, 1, hash=NOBODY))
    ),
    "kept an earlier round after a later one": Wrong(
        "choice.order", lambda s: _keep(_keep(s, kept(s, 1)), kept(s, 0))
    ),
    "released another model than was kept": Wrong(
        "choice.other_model", lambda s: _keep(s, kept(s, 0))
    ),
}
