"""The long effects of a study: training, fetching, averaging, releasing.

Each job starts at once and ends in exactly one event, also when it fails on an error of our own. A
job never decides what its failure means: it says what happened, and the core decides. A disk that
refuses our own models ends the node: after a restart the study goes on where the ledger ends."""

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from gossip.transport import Transport
from p2pfl.averaging import AveragingError
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.drafts import GUARD_STEP
from p2pfl.core.names import DatasetId, ModelHash, StudyId
from p2pfl.runtime.averaging_job import (
    Mixed,
    averaging_environment,
    keep_compiled_code,
    mix,
)
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.confinement.terms import Terms
from p2pfl.runtime.errors import EXIT_IO, BlobError, OperatorError
from p2pfl.runtime.guarding import Compared, step_borne
from p2pfl.runtime.home import Home
from p2pfl.runtime.keeping import Keep
from p2pfl.runtime.model_jobs import ModelJobs, Transfer
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_jobs import DatasetFile, TrainingJobs
from p2pfl.runtime.training_usage import Allowance

__all__ = ["DatasetFile", "StudyJobs"]


class StudyJobs:
    """Performs the long effects of all studies of one node."""

    def __init__(
        self,
        *,
        home: Home,
        blobs: BlobStore,
        transport: Transport,
        dataset_file: Callable[[DatasetId], DatasetFile],
        training_program: Sequence[str],
        confinement: Terms | None = None,
        allowance: Allowance | None = None,
        submit: Callable[[ev.Event], None],
        show: Callable[[StudyId, fx.Notice], None],
        report_bug: Callable[[BaseException], None],
        fail: Callable[[Exception], None],
        keep: Keep,
    ) -> None:
        """fail: told what the node cannot go on with."""
        self._blobs = blobs
        self._submit = submit
        self._show = show
        self._report_bug = report_bug
        self._fail = fail
        self._tasks: dict[asyncio.Task[None], StudyId] = {}
        self._environment = averaging_environment()
        self._has_averaged = False
        self._own: dict[StudyId, ModelHash] = {}
        keep_compiled_code(home.path, os.environ)
        self._models = ModelJobs(
            home=home, blobs=blobs, transport=transport, submit=submit, keep=keep, show=show
        )
        self._training = TrainingJobs(
            home=home,
            blobs=blobs,
            dataset_file=dataset_file,
            program=training_program,
            confinement=confinement,
            allowance=allowance,
            submit=submit,
        )

    def training_pids(self) -> tuple[int, ...]:
        """Process ids of the running training processes."""
        return self._training.pids()

    def transfers(self) -> tuple[Transfer, ...]:
        """Models that are being fetched."""
        return self._models.transfers()

    def fetching(self) -> frozenset[StudyId]:
        """Studies of which a model is being fetched."""
        return frozenset(transfer.study for transfer in self._models.transfers())

    def start(self, effect: fx.StudyJob) -> None:
        """Start a job; its end comes back as an event."""
        task = asyncio.get_running_loop().create_task(self._job(effect))
        self._tasks[task] = effect.study
        task.add_done_callback(self._ended)

    async def close_training(self, effect: fx.CloseTraining) -> None:
        """End a study's process: after what it was already asked, or at once.

        At once means all of the study's jobs: nothing of it is released any more."""
        if effect.now:
            await self._cancel([t for t, study in self._tasks.items() if study == effect.study])
            await self._training.kill(effect.study)
        else:
            closing = asyncio.get_running_loop().create_task(self._training.close(effect.study))
            self._tasks[closing] = effect.study
            closing.add_done_callback(self._ended)
        await asyncio.to_thread(self._models.forget_parts, effect.study)

    def keep_initial(self, effect: fx.KeepProposal) -> None:
        """Store the initial model that came with a proposal. Called in a thread."""
        self._models.keep_initial(effect)

    async def stop(self) -> None:
        """Forget every job and kill every training process."""
        await self._cancel(list(self._tasks))
        await asyncio.gather(self._training.kill_all(), self._models.stop())

    # -- plumbing --------------------------------------------------------------------------------

    async def _cancel(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report_bug(error)

    async def _job(self, effect: fx.StudyJob) -> None:
        try:
            await self._perform(effect)
        except OperatorError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_disk_refuses(error))
        except BlobError as error:
            self._submit_failure(effect, str(error))
        except Exception as error:
            self._report_bug(error)
            self._submit_failure(effect, f"an error of our own: {type(error).__name__}")

    async def _perform(self, effect: fx.StudyJob) -> None:
        match effect:
            case fx.OpenTraining():
                await self._training.open(effect)
            case fx.Train():
                await self._training.train(effect)
            case fx.Score():
                await self._training.score(effect)
            case fx.ReleaseModel():
                await self._training.release(effect)
            case fx.Obtain():
                await self._models.obtain(effect)
            case fx.FetchModel():
                await self._models.fetch_model(effect)
            case fx.Average():
                await self._average(effect)
            case _:
                assert_never(effect)

    def _submit_failure(self, effect: fx.StudyJob, message: str) -> None:
        """The event of a job that met a bug: a study must not wait for ever because of it."""
        match effect:
            case fx.OpenTraining() | fx.Train():
                self._training.failed(effect.study, TrainingError("internal", message))
            case fx.Obtain(study=study, round=round_, sender=sender, model=model):
                self._submit(ev.ObtainFailed(study, round_, sender, model, "internal", False))
            case fx.Average(study=study, round=round_):
                self._submit(ev.AveragingFailed(study, round_, message))
            case fx.ReleaseModel(study=study):
                sentence = (
                    f"the final model cannot be put where people find it: {message}; restore that "
                    "file from a backup, then start the node again"
                )
                self._show(study, fx.Happened("release_failed", sentence, ()))
            case fx.Score(study=study, round=round_):
                self._submit(ev.NotScored(study, round_))
            case fx.FetchModel():
                pass  # a fetch retries by itself
            case _:
                assert_never(effect)

    # -- averaging -------------------------------------------------------------------------------

    async def _average(self, effect: fx.Average) -> None:
        try:
            effect, step = await self._guarded(effect)
            mixed, model = await asyncio.to_thread(self._mix, effect)
            await self._models.settled(given.model for given in effect.inputs)
        except (BlobError, AveragingError) as error:
            self._submit(ev.AveragingFailed(effect.study, effect.round, str(error)))
            return
        spread = mixed.spread
        self._submit(
            ev.Averaged(
                effect.study,
                effect.round,
                model,
                mixed.verdicts,
                spread.largest,
                self._environment,
                step,
                spread.median,
            )
        )
        if not self._has_averaged:
            self._has_averaged = True
            gc.freeze()  # the compiled rules came with much that stays: see `node`
        await asyncio.to_thread(self._let_go, effect)

    def _let_go(self, effect: fx.Average) -> None:
        """What went into an average is read by audits alone; the own model by late neighbours, too:
        it goes a round later."""
        before, self._own[effect.study] = self._own.get(effect.study), ModelHash(effect.own)
        old = {given.model for given in effect.inputs} | ({before} if before else set())
        for model in sorted(old - {effect.own}):
            self._blobs.let_go(model)

    async def _guarded(self, effect: fx.Average) -> tuple[fx.Average, str]:
        """The averaging with as much of its step as the own hold-out bears, and that step."""
        base = effect.guard_base
        if base is None:
            return effect, ""

        async def compare(step: float) -> Compared:
            _, model = await asyncio.to_thread(self._mix, _stepping(effect, repr(step)))
            return await self._training.compare(effect.study, base, model)

        try:
            step = repr(await step_borne(compare))
        except TrainingError as error:
            sentence = (
                f"round {effect.round} was averaged without the hold-out guard: {error.message}; "
                "the training process has to run for it"
            )
            self._show(effect.study, fx.Happened("guard_missing", sentence, ()))
            return effect, ""
        if step != "1.0":
            sentence = (
                f"round {effect.round}: on the own hold-out the averaged model is worse than the "
                f"last one, more than chance explains; took {float(step):.0%} of the step"
            )
            self._show(effect.study, fx.Happened("step_guarded", sentence, (("step", step),)))
        return _stepping(effect, step), step

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


def _stepping(effect: fx.Average, step: str) -> fx.Average:
    parameters = dict(effect.rule_parameters) | {GUARD_STEP: step}
    return replace(effect, rule_parameters=tuple(sorted(parameters.items())))


def _disk_refuses(error: OSError) -> OperatorError:
    return OperatorError(
        f"The node cannot store a model: {error.strerror or error}.",
        fix="Free disk space or check the disk, then start the node again; nothing was lost, "
        "studies resume by themselves.",
        exit_code=EXIT_IO,
    )
