"""One running study at one site, as a state machine: train, publish, gather, average, repeat.

Pure: it asks for effects and is told of their ends. What is durable lives in `History`; what is
held here can be lost at any instant and is rebuilt from the ledger and from what neighbours say."""

from gossip.identifiers import SiteId
from p2pfl.core import announcing, drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.base_model import BaseModel
from p2pfl.core.boxed import Boxed
from p2pfl.core.choosing import Choosing
from p2pfl.core.ending import LEFT, Ending
from p2pfl.core.gathering import Gathering
from p2pfl.core.hearing import Hearing
from p2pfl.core.history import DatasetHistory, History, Standing
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.mixers import Mixer
from p2pfl.core.mixing import Mixing
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId
from p2pfl.core.pausing import Pausing
from p2pfl.core.phases import MAY_EXPIRE, OVER, Phase, hindrance
from p2pfl.core.steering import Following
from p2pfl.core.stopping import Stopping
from p2pfl.core.training import LIMITS, Process, Training, refusal_by_budget
from p2pfl.core.waits import Waits
from p2pfl.core.watch import RoundWatch, Telling


class StudyRun:
    """A study this site approved, from its first round to its end.

    models: what is on disk, shared with the node; own models are added to it as they are made."""

    def __init__(
        self, me: SiteId, manifest: Manifest, history: History, bucket: int, models: set[ModelHash]
    ) -> None:
        self.id = StudyId(manifest.study_id)
        self.manifest = manifest
        self.phase = Phase.WAITING
        self.round = Round(0)
        self.gathering = Gathering(me, manifest, bucket)
        self.past = history.study(self.id)
        """What the ledger says about this study."""
        self.steering = Following(self.past)
        self._mandate = fx.Mandate(self.id, self.past.approved_seq)
        self._expires_s = float(manifest.study.expires_s)
        self._history = history
        self._base = BaseModel(me, manifest, models)
        self._training = Training(manifest, bucket)
        self._mixing: Mixing | None = None
        self._tell = Telling(self.id)
        self.hearing = Hearing(self.id, self.gathering, self.past, self._tell)
        self.waits = Waits(self.id, self.gathering, self._tell)
        self.pausing = Pausing(self.past, self._mandate, self.waits, self._tell)
        self.boxed = Boxed(manifest, self._tell)
        self._mixer = Mixer(me, manifest, self.gathering, self.waits, self._tell)
        self.choosing = Choosing(manifest, self.past, self._mandate, self._tell)
        self._ending = Ending(manifest, self.past, self._mandate, self._tell, self.choosing)
        self.watch = RoundWatch(manifest, self.past, bucket)
        self._stopping = Stopping(manifest, self.past, self._tell)
        self._note = b""

    @property
    def dataset(self) -> DatasetHistory:
        """The registered dataset that this site's approval names."""
        approval = self.past.approval
        assert approval is not None, "a study runs only under an approval"
        return self._history.datasets[DatasetId(approval.ds)]

    # -- life ------------------------------------------------------------------------------------

    def begin(self, now_s: float, note: bytes) -> list[fx.Effect]:
        """Resume where the ledger ends: after the last averaging, from the newest model here.

        A study that is complete only offers its last updates to those who still need them."""
        self._note, past = note, self.past
        self.round = Round(max(past.averaged.keys() | past.skipped, default=-1) + 1)
        self._base.resume(past)
        if past.standing is Standing.CLOSED:
            self.phase = Phase.ENDED
            return self.offer_updates()
        if now_s >= self._expires_s:
            return []  # `advance` leaves
        return [
            fx.SetTimer(self.id, ev.Expiry(self.id), self._expires_s),
            *self._open_training(),
            *self._base.fetch(),
            *self.hearing.enter(self.round),
        ]

    def stop(self, reason: str, told_as: str = LEFT) -> list[fx.Effect]:
        """Leave at once: the training process is killed and nothing more is released."""
        if self.phase is Phase.ENDED:
            return announcing.withdrawals(self.id)
        self.phase = Phase.ENDED
        return self._ending.stop(reason, told_as)

    def advance(self, now_s: float) -> list[fx.Effect]:
        """Do whatever has become possible. Safe to call after any event."""
        effects: list[fx.Effect] = []
        while True:
            phase, round_ = self.phase, self.round
            effects += self._step(now_s)
            if self.phase is phase and self.round == round_:
                return effects

    def _step(self, now_s: float) -> list[fx.Effect]:
        if now_s >= self._expires_s and self.phase in MAY_EXPIRE and not self._is_through:
            return self._leave("expired", "the study has expired; its proposer can propose it anew")
        match self.phase:
            case Phase.WAITING:
                return self._start_round(now_s)
            case Phase.GATHERING:
                return self._gather(now_s)
            case Phase.FINISHING:
                return self._ending.advance(self._base.hash, self._training.is_settled)
            case _:
                return []  # waits for the end of something it asked for, or is over

    @property
    def _is_through(self) -> bool:
        """Whether every round lies behind this site."""
        return self.round >= self._ending.planned.total

    # -- starting a round ------------------------------------------------------------------------

    def _start_round(self, now_s: float) -> list[fx.Effect]:
        if self._is_through:
            self.phase = Phase.FINISHING
            return []
        if self.gathering.ahead(self.round):
            return self._catch_up(now_s)
        if self.round in self.past.published:
            return self._resume_round(now_s)
        if self.round == 0 and self.past.is_stopped:
            return self._leave("withdrawn", "its proposer withdrew it before it began")
        if (waiting := self._wait_before_round()) is not None:
            return waiting
        self._start_watch(now_s)
        if self.round >= self._ending.planned.trained or self._stopping.has_stopped:
            return self._publish_without_training()
        refusal = refusal_by_budget(self.past, self.dataset)
        if refusal:
            return self._leave("budget-exhausted", f"round {self.round} was refused: {refusal}")
        self.phase = Phase.TRAINING
        self._tell.goes_on()
        steering = self.steering.begin(self._tell, self._mandate, self.round)
        arguments, d = self.steering.arguments, self.manifest.study.parameters
        return [*steering, fx.Train(self.id, self.round, self._base.hash, d, arguments)]

    def _resume_round(self, now_s: float) -> list[fx.Effect]:
        """Go on with a round whose update was recorded before a crash."""
        self._start_watch(now_s)
        if self.past.published[self.round].model in self._base.here:
            return self._enter_gathering(now_s)
        sentence = f"the own update of round {self.round} is lost: the round goes by without it"
        return self._skip("update-lost", sentence)

    def _skip(self, code: str, sentence: str) -> list[fx.Effect]:
        self.phase = Phase.CLOSING
        told = self._tell.happened(code.replace("-", "_"), sentence, round=str(self.round))
        return [told, self._mandate.append(drafts.skipped_draft(self.id, self.round, code))]

    def _start_watch(self, now_s: float) -> None:
        self.watch.start(now_s)
        self.waits.begin(self.round, now_s)

    def _wait_before_round(self) -> list[fx.Effect] | None:
        if (paused := self.pausing.before_round(self.round)) is not None:
            return paused
        present, process = len(self.gathering.buckets), self._training.process
        found = hindrance(self.manifest, self.past, self.round, self._base, present, process)
        return None if found is None else self._tell.waits(*found)

    def _publish_without_training(self) -> list[fx.Effect]:
        self.phase = Phase.RECORDING
        self._tell.goes_on()
        return [
            self._mandate.append(drafts.consensus_draft(self.manifest, self.round, self._base.hash))
        ]

    # -- training --------------------------------------------------------------------------------

    def opened(self, event: ev.TrainingOpened) -> list[fx.Effect]:
        """The training process is ready; its model must be the one the manifest speaks of."""
        if self._training.process is not Process.OPENING or self.phase in OVER:
            return []
        wrong = self._training.opened(event)
        return self._leave("wrong-model", wrong) if wrong else self.choosing.opened()

    def trained(self, now_s: float, event: ev.Trained) -> list[fx.Effect]:
        """Record the spending and the release together, before anything is released."""
        if self.phase is not Phase.TRAINING or event.round != self.round:
            return []
        dataset, base = self.dataset, self._base.hash
        steered = self.steering.arguments
        entries = self._training.entries(self.past, dataset, base, event, self._mandate, steered)
        if entries is None:
            sentence = "training did not keep to the approved privacy terms; nothing was released"
            return self._leave("terms-violated", sentence)
        self.phase = Phase.RECORDING
        self.watch.now.trained_s, self.watch.now.loss = now_s, event.loss
        self._base.here.add(event.model)
        return [*self.boxed.trained(event), entries]

    def training_failed(self, now_s: float, event: ev.TrainingFailed) -> list[fx.Effect]:
        """Try again a few times: nothing was released, so nothing was spent.

        A site that needs no training any more goes on without the process."""
        if self.phase in OVER:
            return []
        if self.phase is Phase.TRAINING:
            self.phase = Phase.WAITING
        shown = self._tell.happened("training_failed", event.message, code=event.code)
        again = self._training.failed(now_s, event.code)
        if self._training.process is Process.GIVEN_UP and self.round < self._ending.planned.trained:
            reason = event.code if event.code in LIMITS else "training-failed"
            return [shown, *self._leave(reason, event.message)]
        return [shown, *again]

    def model_ready(self, model: ModelHash) -> list[fx.Effect]:
        """A model that the study needs is on disk."""
        self._base.here.add(model)
        return self.retry()

    def retry(self) -> list[fx.Effect]:
        """A timer fired, or a model arrived: try again what failed or had to wait."""
        if self.phase in OVER:
            return []
        return self._open_training() + self.gathering.obtain_again(self.round)

    def _open_training(self) -> list[fx.Effect]:
        ds = DatasetId(self.dataset.terms.ds)
        return self._training.open(ds, self.past.code) if self._base.has_materials else []

    # -- after an append -------------------------------------------------------------------------

    def appended(self, now_s: float, note: bytes) -> list[fx.Effect]:
        """Something became durable, and `note` covers it: go on with what waited for it."""
        self._note = note
        past = self.past
        if past.standing is Standing.CLOSED:
            return self._end()
        if self.phase is Phase.RECORDING and self.round in past.published:
            return self._enter_gathering(now_s)
        is_closed = self.round in past.averaged or self.round in past.skipped
        if self.phase is Phase.CLOSING and is_closed:
            return self._next_round(now_s)
        return []

    def _enter_gathering(self, now_s: float) -> list[fx.Effect]:
        self.phase = Phase.GATHERING
        self._tell.goes_on()
        self.watch.now.published_s = now_s
        return [
            *self.offer_updates(),
            *self.hearing.enter(self.round),
            self.waits.gather(self.round, now_s),
        ]

    def offer_updates(self) -> list[fx.Effect]:
        """Tell the present neighbours of the newest own updates, which are on record by now."""
        sites_at = self.gathering.neighbours_at
        return announcing.offers(self.manifest, self.past, self._base.here, self._note, sites_at)

    def _next_round(self, now_s: float) -> list[fx.Effect]:
        done = self.round
        self.round = Round(done + 1)
        self.phase = Phase.WAITING
        entered = self.hearing.enter(self.round)
        if done not in self.past.averaged:
            return entered
        self.watch.close(now_s)
        self._base.hash = self.past.averaged[done]
        return [self.choosing.ask(done, self._base.hash), *entered]

    # -- hearing ---------------------------------------------------------------------------------

    def sites_changed(self, buckets: dict[SiteId, int], mute: frozenset[SiteId]) -> list[fx.Effect]:
        """Other sites approve, left or moved: whoever is new gets the newest own updates."""
        before = self.gathering.hood.neighbours
        obtain = self.gathering.sites_changed(self.round, buckets, mute)
        if self.phase in OVER:
            obtain = []
        is_same = self.gathering.hood.neighbours == before
        return obtain if is_same else [*obtain, *self.offer_updates()]

    def connected(self, now_s: float, sites: frozenset[SiteId]) -> list[fx.Effect]:
        """These sites can be reached now: ask again for what could not be had before."""
        for back in sites - self.gathering.connected:
            self.gathering.patience.heard(back)
        self.gathering.connected = sites
        obtain = [] if self.phase in OVER else self.gathering.obtain_again(self.round)
        is_waited = self.phase is Phase.GATHERING
        return obtain + (self.waits.connected(self.round, now_s) if is_waited else [])

    def announced(self, now_s: float, heard: Heard) -> list[fx.Effect]:
        """A neighbour tells of its update. Raises an UpdateRefused."""
        return [] if self.phase in OVER else self.hearing.announced(now_s, self.round, heard)

    def obtain_failed(self, now_s: float, event: ev.ObtainFailed) -> list[fx.Effect]:
        """A neighbour's update could not be had, or is not what was announced."""
        return [] if self.phase in OVER else self.hearing.obtain_failed(now_s, event)

    def deadline(self, now_s: float, round_: Round) -> list[fx.Effect]:
        """Somebody's time is up: `advance` goes on with whoever was heard, if they suffice."""
        if self.phase not in (Phase.WAITING, Phase.GATHERING) or round_ != self.round:
            return []
        is_gathering = self.phase is Phase.GATHERING
        return self.pausing.look(round_, now_s) if is_gathering else self.waits.end(round_, now_s)

    # -- averaging -------------------------------------------------------------------------------

    def _gather(self, now_s: float) -> list[fx.Effect]:
        if self.gathering.ahead(self.round):
            return self._catch_up(now_s)
        found: Mixing | list[fx.Effect] = []
        if self.gathering.is_settled(self.round):
            own = self.past.published[self.round].model
            found = self._mixer.of_round(self.round, self._base.hash, own)
        if isinstance(found, Mixing):
            return self._average(now_s, found)
        if self.past.is_stopped and self.gathering.is_overdue:
            return self._skip("others-ended", f"round {self.round + 1} goes by: the others ended")
        return self.pausing.gathering(self.round, now_s, found)

    def _catch_up(self, now_s: float) -> list[fx.Effect]:
        """Adopt the robust average of neighbours that went on without us."""
        found = self._mixer.of_catch_up(now_s, self.round, self._base, self.phase)
        if not isinstance(found, Mixing):
            return found
        self.round = found.effect.round
        self._start_watch(now_s)
        return self._average(now_s, found)

    def _average(self, now_s: float, mixing: Mixing) -> list[fx.Effect]:
        self.phase, self._mixing = Phase.AVERAGING, mixing
        self._tell.goes_on()
        self.watch.now.gathered_s, self.watch.now.heard = now_s, len(mixing.used)
        return [mixing.effect]

    def averaged(self, now_s: float, event: ev.Averaged) -> list[fx.Effect]:
        """Record what was averaged with its inputs, before the result is used."""
        if self.phase is Phase.FINISHING:
            self._ending.measured(event.distance)
        if self.phase is not Phase.AVERAGING or event.round != self.round:
            return []
        assert self._mixing is not None, "averaging was asked for"
        if self.gathering.has_left(self._mixing.used):
            # Meanwhile: of what came of its update nothing is used, and the round is resumed.
            self.round = min(map(Round, self._mixing.skipped), default=self.round)
            self.phase = Phase.WAITING
            return []
        self.phase = Phase.CLOSING
        self._base.here.add(event.model)
        told = self.watch.averaged(now_s, self._tell, event)
        told += self.boxed.averaged(event.round, self._mixing.used, self.waits.name_of)
        self._ending.measured(event.distance)
        self.choosing.averaged(event)
        made = self._mixing.drafts(self.past, event)
        return [*told, self._mandate.append(*made)]

    def averaging_failed(self, event: ev.AveragingFailed) -> list[fx.Effect]:
        """Averaging refused inputs that had passed every check: stop rather than guess."""
        if self.phase is Phase.FINISHING:
            self._ending.measured(drafts.DISTANCE_MAX)
        if self.phase is not Phase.AVERAGING or event.round != self.round:
            return []
        return self._leave("averaging-failed", event.message)

    # -- ending ----------------------------------------------------------------------------------

    def model_released(self) -> list[fx.Effect]:
        """The final model lies where people find it: the study may be closed."""
        return self._ending.released() if self.phase is Phase.FINISHING else []

    def _end(self) -> list[fx.Effect]:
        """The close is on record: by this node, or by a person's command."""
        if self.phase is Phase.ENDED:
            return []
        was_leaving, self.phase = self.phase is Phase.LEAVING, Phase.ENDED
        if self.past.is_complete:
            return self._ending.farewell()
        return self._ending.gone(was_leaving=was_leaving)

    def _leave(self, reason: str, sentence: str) -> list[fx.Effect]:
        self.phase = Phase.LEAVING
        return self._ending.leave(self.round, reason, sentence)

    def scored(self, event: ev.Scored) -> list[fx.Effect]:
        """The line of a round that is complete, once its model has a score here."""
        is_again, chosen = self.choosing.is_again(event), self.choosing.scored(event)
        if is_again:
            return chosen
        expected = len(self.gathering.hood.neighbours)
        line = self.watch.line(self.id, self.dataset, event, expected)
        return [*line, *self._stopping.scored(event), *chosen]
