"""The model a site starts its next round from, and which of its own models are on disk."""

from gossip.identifiers import SiteId
from p2pfl.core import effects as fx
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, StudyId


class BaseModel:
    """One study's newest model at this site.

    here: digests of what is on disk, shared with the node."""

    def __init__(self, me: SiteId, manifest: Manifest, here: set[ModelHash]) -> None:
        self.hash = ModelHash(manifest.study.initial_model)
        self.here = here
        self._me = me
        self._manifest = manifest

    @property
    def is_here(self) -> bool:
        """Whether a round can start from it."""
        return self.hash in self.here

    def resume(self, past: StudyHistory) -> None:
        """The newest average on record that is on disk; without any, the initial model."""
        found = [round_ for round_, model in past.averaged.items() if model in self.here]
        if found:
            self.hash = past.averaged[max(found)]

    def fetch(self) -> list[fx.Effect]:
        """Have it brought by another site if it is missing: then it is the initial model."""
        if self.is_here:
            return []
        terms = self._manifest.study
        holders = tuple(sorted(site for site in terms.sites if site != self._me))
        study = StudyId(self._manifest.study_id)
        return [fx.FetchModel(study, self.hash, terms.parameters, holders)]
