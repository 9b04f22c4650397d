"""The long effects of a study: training, fetching, averaging, releasing.

Each job starts at once and ends in exactly one event. A job never decides what its failure means:
it says what happened, and the core decides."""

import asyncio
import contextlib
import hashlib
import math
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossip.errors import BlobMismatch, TransportError
from gossip.identifiers import Digest, SiteId
from gossip.transport import Transport
from p2pfl.averaging import AveragingError
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.gathering import blob_size_bytes
from p2pfl.core.names import DatasetId, ModelHash, StudyId
from p2pfl.runtime.averaging_job import Mixed, averaging_environment, mix
from p2pfl.runtime.blobs import BlobStore, vector_of
from p2pfl.runtime.errors import BlobError, NotFinite, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.training_process import TrainingError, TrainingProcess

TRAINING_THREADS = 1


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """Where a registered dataset lies at this site, and which column tells patients apart."""

    path: Path
    patient_column: str
    """Empty: every row is a patient of its own."""


class StudyJobs:
    """Performs the long effects of all studies of one node."""

    def __init__(
        self,
        *,
        home: Home,
        blobs: BlobStore,
        transport: Transport,
        dataset_file: Callable[[DatasetId], DatasetFile],
        submit: Callable[[ev.Event], None],
        report_bug: Callable[[BaseException], None],
    ) -> None:
        self._home = home
        self._blobs = blobs
        self._transport = transport
        self._dataset_file = dataset_file
        self._submit = submit
        self._report_bug = report_bug
        self._training: dict[StudyId, TrainingProcess] = {}
        self._tasks: dict[asyncio.Task[None], StudyId] = {}
        self._environment = averaging_environment()

    def training_pids(self) -> tuple[int, ...]:
        """Process ids of the running training processes."""
        return tuple(process.pid for process in self._training.values())

    def start(self, effect: fx.StudyJob) -> None:
        """Start a job; its end comes back as an event."""
        task = asyncio.get_running_loop().create_task(self._job(effect))
        self._tasks[task] = effect.study
        task.add_done_callback(self._ended)

    async def close_training(self, effect: fx.CloseTraining) -> None:
        """End a study's process: at once, or after what it was already asked."""
        process = self._training.pop(effect.study, None)
        if process is None:
            return
        if effect.now:
            await process.kill()
        else:
            self._background(effect.study, process.close())

    async def stop(self) -> None:
        """Kill every training process and forget every job."""
        for process in self._training.values():
            await process.kill()
        self._training.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- plumbing --------------------------------------------------------------------------------

    def _background(self, study: StudyId, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks[task] = study
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report_bug(error)

    async def _job(self, effect: fx.StudyJob) -> None:
        match effect:
            case fx.OpenTraining():
                await self._open(effect)
            case fx.Train():
                await self._train(effect)
            case fx.Score():
                await self._score(effect)
            case fx.ReleaseModel():
                await self._release(effect)
            case fx.Obtain():
                await self._obtain(effect)
            case fx.FetchModel():
                await self._fetch_model(effect)
            case fx.Average():
                await self._average(effect)

    # -- training --------------------------------------------------------------------------------

    async def _open(self, effect: fx.OpenTraining) -> None:
        study = effect.study
        previous = self._training.pop(study, None)
        if previous is not None:
            await previous.kill()
        try:
            data = await asyncio.to_thread(self._dataset_file, effect.dataset)
            errors = self._home.logs / f"training-{study.hex()[:12]}.log"
            process = await TrainingProcess.start(errors, self._work(study))
            self._training[study] = process
            opened = await process.ask(
                "open",
                manifest=effect.manifest.raw,
                dataset=str(data.path),
                patient_column=data.patient_column,
                denominator=effect.denominator,
                threads=TRAINING_THREADS,
            )
            event = ev.TrainingOpened(
                study, int(opened["parameters"]), opened["code_hash"], opened["env_hash"]
            )
        except TrainingError as error:
            self._failed(study, error)
        except OperatorError as error:
            self._failed(study, TrainingError("dataset", f"{error.message} {error.fix}"))
        except OSError as error:
            self._failed(study, TrainingError("cannot-start", f"{error.strerror}"))
        else:
            self._submit(event)

    async def _train(self, effect: fx.Train) -> None:
        study = effect.study
        out = self._work(study) / f"round-{effect.round}.safetensors"
        try:
            done = await self._ask(
                study,
                "train",
                round=effect.round,
                base=str(self._blobs.path(effect.base)),
                out=str(out),
                arguments={},
            )
            model, size = await asyncio.to_thread(self._take_in, out, effect.parameters)
        except TrainingError as error:
            self._failed(study, error)
            return
        except BlobError as error:
            self._failed(study, TrainingError("bad-update", str(error)))
            return
        spending = ev.Spending(
            mech=str(done["mech"]),
            sigma=str(done["sigma"]),
            q=str(done["q"]),
            steps=int(done["steps"]),
            clip=str(done["clip"]),
        )
        loss, seconds = float(done["loss"]), float(done["seconds"])
        self._submit(ev.Trained(study, effect.round, model, size, spending, loss, seconds))

    def _take_in(self, out: Path, parameters: int) -> tuple[ModelHash, int]:
        """Check the update the process wrote, as if a stranger had written it, and file it."""
        data = out.read_bytes() if out.stat().st_size <= blob_size_bytes(parameters) else b""
        vector_of(data, parameters)
        digest = self._blobs.put_bytes(data)
        out.unlink()
        return ModelHash(digest), len(data)

    async def _score(self, effect: fx.Score) -> None:
        try:
            scored = await self._ask(
                effect.study, "score", model=str(self._blobs.path(effect.model))
            )
        except TrainingError:
            return  # a score is a courtesy to the people here; its absence stops nothing
        auc = scored["auc"]
        is_score = isinstance(auc, float) and math.isfinite(auc)
        self._submit(
            ev.Scored(
                effect.study,
                effect.round,
                auc if is_score else None,
                float(scored["accuracy"]),
            )
        )

    async def _release(self, effect: fx.ReleaseModel) -> None:
        folder = self._home.study_models(effect.study)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored = self._blobs.path(effect.model)
        await asyncio.to_thread(shutil.copyfile, stored, folder / "final.vector.safetensors")
        with contextlib.suppress(TrainingError):
            await self._ask(
                effect.study,
                "release",
                model=str(stored),
                model_out=str(folder / "model.safetensors"),
                holdout_out=str(folder / "holdout.csv"),
            )
        self._submit(ev.ModelReleased(effect.study, effect.model))

    async def _ask(self, study: StudyId, request: str, **fields: Any) -> dict[str, Any]:
        process = self._training.get(study)
        if process is None:
            raise TrainingError("not-running", "the training process is not running")
        return await process.ask(request, **fields)

    def _failed(self, study: StudyId, error: TrainingError) -> None:
        self._submit(ev.TrainingFailed(study, error.code, error.message))

    def _work(self, study: StudyId) -> Path:
        folder = self._home.path / "work" / study.hex()[:12]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    # -- models of others ------------------------------------------------------------------------

    async def _obtain(self, effect: fx.Obtain) -> None:
        def failed(reason: str, *, hostile: bool) -> ev.ObtainFailed:
            return ev.ObtainFailed(
                effect.study, effect.round, effect.sender, effect.model, reason, hostile
            )

        try:
            if effect.inline:
                await asyncio.to_thread(self._store_inline, effect)
            else:
                await self._fetch(effect.sender, effect.model, effect.parameters)
        except NotFinite:
            self._submit(failed("not-finite", hostile=True))
        except BlobMismatch:
            self._submit(failed("wrong-digest", hostile=True))
        except BlobError:
            self._submit(failed("wrong-shape", hostile=True))
        except (TransportError, OSError):
            self._submit(failed("not-fetched", hostile=False))
        else:
            self._submit(ev.Obtained(effect.study, effect.round, effect.sender, effect.model))

    def _store_inline(self, effect: fx.Obtain) -> None:
        vector_of(effect.inline, effect.parameters)
        self._blobs.put_bytes(effect.inline)

    async def _fetch(self, site: SiteId, model: ModelHash, parameters: int) -> None:
        """Have a model on disk, whole and sound. A file that is not sound is removed again."""
        digest, path = Digest(model), self._blobs.path(model)
        if not self._blobs.has(model):
            size = blob_size_bytes(parameters)
            await self._transport.fetch(site, digest, size, path, lambda _bytes: None)
        try:
            await asyncio.to_thread(self._blobs.read_vector, model, parameters)
        except BlobError:
            path.unlink(missing_ok=True)
            raise

    async def _fetch_model(self, effect: fx.FetchModel) -> None:
        """Ask one holder after the other until the model is here; patient, never busy."""
        wait_s = 0.2
        while True:
            for site in effect.sites:
                with contextlib.suppress(TransportError, BlobError, OSError):
                    await self._fetch(site, effect.model, effect.parameters)
                    self._submit(ev.ModelReady(effect.study, effect.model))
                    return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 10.0)

    def keep_initial(self, effect: fx.KeepProposal) -> None:
        """Store the initial model that came with a proposal, if it is what the manifest names."""
        wanted = effect.manifest.study.initial_model
        if hashlib.sha256(effect.initial).digest() == wanted and not self._blobs.has(wanted):
            self._blobs.put_bytes(effect.initial)

    # -- averaging -------------------------------------------------------------------------------

    async def _average(self, effect: fx.Average) -> None:
        try:
            mixed, model = await asyncio.to_thread(self._mix, effect)
        except (BlobError, AveragingError, OSError) as error:
            self._submit(ev.AveragingFailed(effect.study, effect.round, str(error)))
            return
        verdicts, distance = mixed.verdicts, mixed.distance
        self._submit(
            ev.Averaged(effect.study, effect.round, model, verdicts, distance, self._environment)
        )

    def _mix(self, effect: fx.Average) -> tuple[Mixed, ModelHash]:
        inputs = [(given.model, given.weight_u) for given in effect.inputs]
        mixed = mix(
            self._blobs,
            effect.rule,
            dict(effect.rule_parameters),
            effect.own,
            inputs,
            effect.parameters,
        )
        digest, _ = self._blobs.write_vector(mixed.value)
        return mixed, ModelHash(digest)
