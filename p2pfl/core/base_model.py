"""The models a study needs before it can go on: the newest own one, and released ones of other
studies that it builds on. Which of them are on disk."""

from gossip.identifiers import SiteId
from p2pfl.core import effects as fx
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest, Material
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

    @property
    def has_materials(self) -> bool:
        """Whether every released model that training needs besides is on disk."""
        return all(ModelHash(material.model) in self.here for material in self._besides)

    def resume(self, past: StudyHistory) -> None:
        """The newest average on record that is on disk; without any, the initial model."""
        found = [round_ for round_, model in past.averaged.items() if model in self.here]
        if found:
            self.hash = past.averaged[max(found)]

    def fetch(self) -> list[fx.Effect]:
        """Have brought by other sites what is missing: the initial model, and materials."""
        wanted = {self.hash: self._manifest.study.parameters}
        wanted |= {ModelHash(found.model): found.parameters for found in self._besides}
        holders = tuple(sorted(site for site in self._manifest.study.sites if site != self._me))
        study = StudyId(self._manifest.study_id)
        return [
            fx.FetchModel(study, model, d, holders)
            for model, d in wanted.items()
            if model not in self.here
        ]

    @property
    def _besides(self) -> tuple[Material, ...]:
        """Without the one that is the initial model anyway."""
        return tuple(found for found in self._manifest.materials if found.use != "start")
