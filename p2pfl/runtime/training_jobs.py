"""The training process of each study: opened, asked, killed. One process per running study.

Every request ends in exactly one event, whatever the process does. A file it wrote is read as if a
stranger had written it."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, ModelHash, StudyId
from p2pfl.runtime import training_answers as answers
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.confinement.terms import Level, Terms
from p2pfl.runtime.encoding import Rounding
from p2pfl.runtime.environment import env_hash
from p2pfl.runtime.errors import BlobError, NotAVector, OperatorError
from p2pfl.runtime.foreign_folder import remove_folder
from p2pfl.runtime.gradient_keeper import start_with_cells
from p2pfl.runtime.guarding import Compared
from p2pfl.runtime.home import Home
from p2pfl.runtime.models_given import ModelsGiven, runs_inside
from p2pfl.runtime.plan_code import bundle_started, check_startable
from p2pfl.runtime.release_pace import ReleasePace
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_process import TrainingProcess
from p2pfl.runtime.training_usage import Allowance
from p2pfl.runtime.training_watch import bounds_here
from p2pfl.runtime.update_privacy import protected_model
from p2pfl.runtime.vector_files import Layout, VectorFile, blocks_of

TRAINING_THREADS = 1
HANDED_OVER = "update.safetensors"
"""What was trained."""
REUSED_FROM_BYTES, REUSED_BYTES_MAX = 1 << 20, 1 << 26
"""Between them the next round writes over the file, whose memory is used again: the gain is nothing
for smaller ones, and larger ones would lie on the disk for long."""


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """Where a registered dataset lies at this site, and which column tells patients apart."""

    path: Path
    patient_column: str
    """Empty: every row is a patient of its own."""
    read: tuple[Path, ...] = ()
    """What it refers to: folders of images."""
    write: tuple[Path, ...] = ()
    """Where prepared images are kept."""


class TrainingJobs:
    """Performs what needs a training process. Used from the node's loop."""

    def __init__(
        self,
        *,
        home: Home,
        blobs: BlobStore,
        dataset_file: Callable[[DatasetId], DatasetFile],
        program: Sequence[str],
        confinement: Terms | None = None,
        allowance: Allowance | None = None,
        submit: Callable[[ev.Event], None],
    ) -> None:
        """allowance: what each study's processes may use up; None: the default."""
        self._home = home
        self._blobs = blobs
        self._dataset_file = dataset_file
        self._program = program
        self._confinement = confinement
        self._allowance = allowance or Allowance()
        self._submit = submit
        self._processes: dict[StudyId, TrainingProcess] = {}
        self._manifests: dict[StudyId, Manifest] = {}
        self._models = ModelsGiven(home, blobs)
        self._pace = ReleasePace()

    def pids(self) -> tuple[int, ...]:
        """Process ids of the running training processes."""
        return tuple(process.pid for process in self._processes.values())

    async def open(self, effect: fx.OpenTraining) -> None:
        """Start a process for a study, in place of an earlier one, and have it load the data."""
        try:
            event = await self._opened(effect)
        except TrainingError as error:
            self.failed(effect.study, error)
        except OperatorError as error:
            self.failed(effect.study, TrainingError("dataset", f"{error.message} {error.fix}"))
        except OSError as error:
            self.failed(effect.study, TrainingError("cannot-start", f"{error.strerror}"))
        else:
            self._submit(event)

    async def _opened(self, effect: fx.OpenTraining) -> ev.TrainingOpened:
        study = effect.study
        await self.kill(study)
        await asyncio.to_thread(check_startable, effect.manifest, effect.code, self._confinement)
        bundle = await asyncio.to_thread(bundle_started, self._home, effect.manifest)
        data = await asyncio.to_thread(self._dataset_file, effect.dataset)
        scratch = await asyncio.to_thread(self._fresh_scratch, study)
        log = self._home.logs / f"training-{study.hex()[:12]}.log"
        await asyncio.to_thread(self._models.begin, effect.manifest)
        bounds = await asyncio.to_thread(bounds_here, self._allowance, scratch)
        terms = await asyncio.to_thread(self._terms, effect.manifest, data, bundle)
        terms = None if terms is None else terms.holding(bounds.private_bytes)
        process = await self._started(log, scratch, terms, effect.manifest)
        process.watch(bounds, scratch)
        earlier, self._processes[study] = self._processes.get(study), process
        if earlier is not None:  # two were asked for at once: one process per study
            await earlier.kill()
        manifest = effect.manifest
        given = partial(self._models.path, manifest)
        # What a researcher's code prepares of images is of use to no other study.
        own = {"prepared": str(scratch / "prepared")} if runs_inside(manifest) else {}
        own |= {} if bundle is None else {"bundle": str(bundle)}
        answer = await process.ask(
            "open",
            manifest=manifest.raw,
            dataset=str(data.path),
            patient_column=data.patient_column,
            denominator=effect.denominator,
            threads=TRAINING_THREADS,
            materials={found.use: str(given(found.model)) for found in manifest.materials},
            home_layers=str(self._home.home_layers(study)),
            initial=str(given(manifest.study.initial_model)),
            **own,
        )
        opened = answers.opened(answer)
        self._manifests[study] = manifest
        level = Level.D if terms is None else terms.level
        libraries = opened.env_hash
        if runs_inside(manifest):
            libraries = await asyncio.to_thread(env_hash)
        return ev.TrainingOpened(study, opened.parameters, opened.code_hash, libraries, level.value)

    async def _started(
        self, log: Path, scratch: Path, terms: Terms | None, manifest: Manifest
    ) -> TrainingProcess:
        """The process, with gradient cells beside it where the study asks for them."""
        if manifest.code is not None and manifest.code.gradients == "outside":
            assert terms is not None, "code is startable only where it can be confined"
            return await start_with_cells(log, scratch, self._program, terms)
        return await TrainingProcess.start(log, scratch, self._program, terms)

    async def train(self, effect: fx.Train) -> None:
        """One round of local work. What foreign code made leaves at the end of a fixed length."""
        study, asked_s = effect.study, asyncio.get_running_loop().time()
        out = self._scratch(study) / HANDED_OVER
        try:
            answer = await self._ask(
                study,
                "train",
                round=effect.round,
                base=await self._given(study, effect.base),
                out=str(out),
                arguments={name: _number(text) for name, text in effect.arguments},
            )
            done = answers.trained(answer)
            model, size = await asyncio.to_thread(self._file_update, out, effect)
        except TrainingError as error:
            self.failed(study, error)
            return
        except BlobError as error:
            self.failed(study, TrainingError("bad-update", f"the update is unusable: {error}"))
            return
        if not REUSED_FROM_BYTES <= 4 * effect.parameters <= REUSED_BYTES_MAX:
            # Foreign code may have put something else in its place by now: then that stays.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(out.unlink, missing_ok=True)
        spending, loss, planned = done.spending, done.loss, done.planned
        took_s = asyncio.get_running_loop().time() - asked_s
        await asyncio.sleep(self._pace.wait_s(self._manifests[study], took_s))
        self._submit(
            ev.Trained(study, effect.round, model, size, spending, loss, done.seconds, planned)
        )

    def _file_update(self, trained: Path, effect: fx.Train) -> tuple[ModelHash, int]:
        """Check, protect and encode what was trained, and file that. In a thread.

        Raises BlobError, OSError."""
        manifest, d = self._manifests[effect.study], effect.parameters
        self._blobs.let_go(effect.base)
        layout = Layout(manifest.encoding_at(effect.round), d)
        with opened_update(trained, d) as update:
            blocks = update.again
            if manifest.privacy.is_by_update:
                # Once more read in whole: the norm of the change is known only at its end.
                vector = np.concatenate([block.copy() for block in blocks()])
                base = self._blobs.read_vector(effect.base, d)
                blocks = blocks_of(protected_model(vector, base, manifest.privacy))
            digest, size = self._blobs.write_blocks(blocks, layout, Rounding(os.urandom))
        return ModelHash(digest), size

    async def score(self, effect: fx.Score) -> None:
        """For the people here, and for the study's choices; its absence stops nothing."""
        try:
            model = await self._given(effect.study, effect.model)
            answer = await self._ask(effect.study, "score", model=model)
            scored = answers.scored(answer, self._measured(effect.study))
        except TrainingError:
            self._submit(ev.NotScored(effect.study, effect.round))
            return
        found = scored.auc, scored.accuracy, scored.measures
        self._submit(ev.Scored(effect.study, effect.round, *found))

    def _measured(self, study: StudyId) -> Mapping[str, tuple[float, float]]:
        """What the study's own code may measure, by its manifest."""
        manifest = self._manifests.get(study)
        foreign = None if manifest is None else manifest.foreign
        return {} if foreign is None else foreign.metrics

    async def compare(self, study: StudyId, base: ModelHash, mixed: ModelHash) -> Compared:
        """How the loss on the own hold-out rises from one model to another.

        Raises TrainingError."""
        answer = await self._ask(
            study,
            "compare",
            base=await self._given(study, base),
            mixed=await self._given(study, mixed),
        )
        return answers.compared(answer)

    async def release(self, effect: fx.ReleaseModel) -> None:
        """Put the final model where people find it. Raises OperatorError if the disk refuses.

        With named tensors, if the process still answers; the vector alone in any case."""
        folder = self._home.study_models(effect.study)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        vector = folder / "final.vector.safetensors"
        await asyncio.to_thread(self._blobs.copy_to, effect.model, vector)
        manifest = self._manifests.get(effect.study)
        # What a researcher's code would write there, people would take for the model.
        if manifest is not None and not runs_inside(manifest):
            with contextlib.suppress(TrainingError):
                await self._ask(
                    effect.study,
                    "release",
                    model=await self._given(effect.study, effect.model),
                    model_out=str(folder / "model.safetensors"),
                    holdout_out=str(folder / "holdout.csv"),
                )
        self._submit(ev.ModelReleased(effect.study, effect.model))

    async def close(self, study: StudyId) -> None:
        """Let the process end what it was asked, then end it."""
        process = self._processes.pop(study, None)
        if process is not None:
            await process.close()
            await asyncio.to_thread(self._remove_scratch, study)
            await asyncio.to_thread(self._models.forget, study)

    async def kill(self, study: StudyId) -> None:
        """End a study's process at once."""
        process = self._processes.pop(study, None)
        if process is not None:
            await process.kill()
            await asyncio.to_thread(self._remove_scratch, study)

    async def kill_all(self) -> None:
        """End every process at once."""
        await asyncio.gather(*(self.kill(study) for study in tuple(self._processes)))

    def failed(self, study: StudyId, error: TrainingError) -> None:
        """Tell the core; it decides whether to try again."""
        self._submit(ev.TrainingFailed(study, error.code, error.message))

    async def _ask(self, study: StudyId, request: str, **fields: Any) -> dict[str, Any]:
        process = self._processes.get(study)
        if process is None:
            raise TrainingError("not-running", "the training process is not running")
        return await process.ask(request, **fields)

    async def _given(self, study: StudyId, model: ModelHash) -> str:
        """The path of a model for a study's process. Raises TrainingError."""
        manifest = self._manifests.get(study)
        if manifest is None:  # it never opened: the process itself says so
            return str(self._blobs.path(model))
        return str(await asyncio.to_thread(self._models.path, manifest, model))

    def _terms(self, manifest: Manifest, data: DatasetFile, bundle: Path | None) -> Terms | None:
        """What this study's process may reach: its data, models as they are, its own folders.

        None: whatever this user may. The folder of released models is there in any case."""
        study = StudyId(manifest.study_id)
        released = self._home.study_models(study)
        released.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._confinement is None:
            return None
        read = (data.path, *data.read, self._models.folder(manifest))
        read += () if bundle is None else (bundle,)
        own = self._scratch(study)
        write = (own,) if runs_inside(manifest) else (own, released, *data.write)
        return self._confinement.with_paths(read, write)

    # -- where the process works -----------------------------------------------------------------

    def _scratch(self, study: StudyId) -> Path:
        return self._home.path / "work" / study.hex()

    def _fresh_scratch(self, study: StudyId) -> Path:
        """An empty directory: what a killed process left there is of no use to anybody."""
        self._remove_scratch(study)
        folder = self._scratch(study)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        return folder

    def _remove_scratch(self, study: StudyId) -> None:
        remove_folder(self._scratch(study))


@contextlib.contextmanager
def opened_update(path: Path, parameters: int) -> Iterator[VectorFile]:
    """The update that the training process wrote, read as if a stranger had written it.

    Never follows a link or waits for a pipe, and is refused unless it is a model of `parameters`
    float32 values. Raises BlobError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotAVector(f"it cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAVector("it is not a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        opened = VectorFile(file)
        opened.require(parameters, "float32")
        yield opened


def _number(text: str) -> int | float:
    """A steered value as the training process takes it; whole numbers stay whole.

    >>> _number("5"), _number("0.25"), _number("1e-3")
    (5, 0.25, 0.001)
    """
    return int(text) if text.isdecimal() else float(text)
