"""One running study at one site, as a state machine: train, publish, gather, average, repeat.

Pure: it asks for effects and is told of their ends. What is durable lives in `History`; what is
held here can be lost at any instant and is rebuilt from the ledger and from what neighbours say."""

from enum import Enum

from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.gathering import Gathering, blob_size_bytes, target_round, update_key
from p2pfl.core.history import DatasetHistory, History, Standing, StudyHistory
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId
from p2pfl.core.participants import rule_parameters, weights_u
from p2pfl.core.watch import Stopwatch, round_line

RETRY_S = 1.0
TRAINING_FAILURES_MAX = 3
CATCH_UP_WEIGHT_U = 999_000
"""The neighbours' share of a catch-up; the own model is old and gets what is left."""


class Phase(Enum):
    """Where in a round the study is."""

    WAITING = "waiting"
    TRAINING = "training"
    RECORDING = "recording"
    GATHERING = "gathering"
    AVERAGING = "averaging"
    CLOSING = "closing"
    ENDED = "ended"


class StudyRun:
    """A study this site approved, from its first round to its end."""

    def __init__(self, me: SiteId, manifest: Manifest, history: History, bucket: int) -> None:
        self.id = StudyId(manifest.study_id)
        self.manifest = manifest
        self.phase = Phase.WAITING
        self.round = Round(0)
        self.gathering = Gathering(me, manifest, bucket)
        self._me = me
        self._bucket = bucket
        self._history = history
        self._base = ModelHash(manifest.study.initial_model)
        self._models: set[ModelHash] = set()
        self._environment: drafts.Environment | None = None
        self._used: tuple[Heard, ...] = ()
        self._skipped = range(0)
        self._average: fx.Average | None = None
        self._distance = 0.0
        self._watch = Stopwatch()
        self._last: Stopwatch | None = None
        self._failures = 0
        self._waits_for = ""
        self._note = b""

    @property
    def past(self) -> StudyHistory:
        """What the ledger says about this study."""
        return self._history.study(self.id)

    @property
    def dataset(self) -> DatasetHistory:
        """The registered dataset that this site's approval names."""
        approval = self.past.approval
        assert approval is not None, "a study runs only under an approval"
        return self._history.datasets[DatasetId(approval.ds)]

    # -- life ------------------------------------------------------------------------------------

    def begin(self, models: frozenset[ModelHash], note: bytes) -> list[fx.Effect]:
        """Resume where the ledger ends: after the last averaging whose model is still here."""
        self._models, self._note = set(models), note
        here = [round_ for round_, model in self.past.averaged.items() if model in models]
        if self.past.averaged:
            self.round = Round(max(self.past.averaged) + 1)
        if here:
            self._base = self.past.averaged[max(here)]
        self.gathering.enter(self.round)
        effects: list[fx.Effect] = []
        if self.round < self.manifest.study.rounds_total:
            effects.append(self._open_training())
        return effects + self._fetch_base()

    def stop(self, reason: str) -> list[fx.Effect]:
        """Leave at once: the training process is killed and nothing more is released."""
        if self.phase is Phase.ENDED:
            return []
        self.phase = Phase.ENDED
        return [
            fx.CloseTraining(self.id, now=True),
            fx.Withdraw(self.id, update_key(self.id)),
            self._happened("study_left", f"left the study: {reason}", reason=reason),
        ]

    def advance(self, now_s: float) -> list[fx.Effect]:
        """Do whatever has become possible. Safe to call after any event."""
        if self.phase is Phase.WAITING:
            return self._start_round(now_s)
        if self.phase is Phase.GATHERING:
            return self._gather(now_s)
        return []

    def _open_training(self) -> fx.Effect:
        dataset = DatasetId(self.dataset.terms.ds)
        return fx.OpenTraining(self.id, self.manifest, dataset, self._bucket)

    def _fetch_base(self) -> list[fx.Effect]:
        if self._base in self._models:
            return []
        initial = ModelHash(self.manifest.study.initial_model)
        holders = tuple(sorted(SiteId(s) for s in self.manifest.study.sites if s != self._me))
        self._base = initial
        if initial in self._models:
            return []
        return [fx.FetchModel(self.id, initial, self.manifest.study.parameters, holders)]

    # -- starting a round ------------------------------------------------------------------------

    def _start_round(self, now_s: float) -> list[fx.Effect]:
        terms = self.manifest.study
        if self.round >= terms.rounds_total:
            return self._finish()
        if self.gathering.ahead(self.round):
            return self._catch_up(now_s) or self.gathering.obtain_ahead(self.round)
        if self.round in self.past.published:
            self._watch = Stopwatch(started_s=now_s, trained_s=now_s)
            return self._enter_gathering(now_s)
        waiting = self._wait_before_round()
        if waiting is not None:
            return waiting
        self._watch = Stopwatch(started_s=now_s, trained_s=now_s)
        if self.round >= terms.rounds:
            return self._publish_without_training()
        if now_s >= terms.expires_s:
            return self._leave("expired", "the study has expired; its proposer can propose it anew")
        refusal = self._refusal_by_budget()
        if refusal is not None:
            return refusal
        self.phase, self._waits_for = Phase.TRAINING, ""
        return [fx.Train(self.id, self.round, self._base, terms.parameters)]

    def _wait_before_round(self) -> list[fx.Effect] | None:
        """What a round cannot start without: the model, enough approvals, the process."""
        terms, present = self.manifest.study, len(self.gathering.buckets)
        if self._base not in self._models:
            return self._wait("model", "waits for the initial model to arrive from a neighbour")
        if present < terms.sites_min and not self.past.published:
            sentence = f"waits for approvals: {present} of {terms.sites_min} sites approve so far"
            return self._wait("approvals", sentence)
        if self.round < terms.rounds and self._environment is None:
            return self._wait("training", "waits for its training process to load plan and data")
        return None

    def _refusal_by_budget(self) -> list[fx.Effect] | None:
        """Leave if the next private round would exceed the cap of the dataset."""
        approval, dataset = self.past.approval, self.dataset
        assert approval is not None, "a study runs only under an approval"
        table, after = approval.eps_table_u, self.past.trainings + 1
        if approval.dp.mech == "none":
            return None
        if after < len(table) and table[after] <= dataset.terms.cap_u:
            return None
        left_u = max(0, dataset.terms.cap_u - dataset.spent_u)
        return self._leave(
            "budget-exhausted",
            f"round {self.round} would exceed the privacy budget of the dataset: ε "
            f"{left_u / 1e6:.3f} is left of {dataset.terms.cap_u / 1e6:.3f}",
        )

    def _publish_without_training(self) -> list[fx.Effect]:
        self.phase, self._waits_for = Phase.RECORDING, ""
        size = blob_size_bytes(self.manifest.study.parameters)
        draft = drafts.consensus_draft(self.id, self.round, self._base, size)
        return [fx.Append(self.id, (draft,))]

    # -- training --------------------------------------------------------------------------------

    def opened(self, event: ev.TrainingOpened) -> list[fx.Effect]:
        """The training process is ready; its model must be the one the manifest speaks of."""
        expected = self.manifest.study.parameters
        if event.parameters != expected:
            sentence = (
                f"the plan builds {event.parameters} parameters, the manifest says {expected}"
            )
            return self._leave("wrong-model", sentence)
        self._environment = drafts.Environment(event.code_hash, event.env_hash)
        return []

    def trained(self, now_s: float, event: ev.Trained) -> list[fx.Effect]:
        """Record the spending and the release together, before anything is released."""
        if self.phase is not Phase.TRAINING or event.round != self.round:
            return []
        approval = self.past.approval
        assert approval is not None, "a study runs only under an approval"
        assert self._environment is not None, "training needs an open process"
        if not drafts.is_as_approved(approval.dp, event.spending):
            sentence = "training did not keep to the approved privacy terms; nothing was released"
            return self._leave("terms-violated", sentence)
        self.phase, self._failures = Phase.RECORDING, 0
        self._watch.trained_s, self._watch.loss = now_s, event.loss
        self._models.add(event.model)
        return [
            drafts.training_entries(
                self.manifest, self.past, self.dataset, self._environment, self._base, event
            )
        ]

    def training_failed(self, now_s: float, event: ev.TrainingFailed) -> list[fx.Effect]:
        """Try again a few times: nothing was released, so nothing was spent."""
        if self.phase is Phase.ENDED:
            return []
        self._environment, self._failures = None, self._failures + 1
        if self.phase is Phase.TRAINING:
            self.phase = Phase.WAITING
        shown = self._happened("training_failed", event.message, code=event.code)
        if self._failures > TRAINING_FAILURES_MAX:
            return [shown, *self._leave("training-failed", event.message)]
        return [shown, fx.SetTimer(self.id, ev.Retry(self.id), now_s + RETRY_S * self._failures)]

    def retry(self) -> list[fx.Effect]:
        """A timer says: try again what failed."""
        if self.phase is Phase.ENDED:
            return []
        reopen = [] if self._environment is not None else [self._open_training()]
        return reopen + self._fetch_base() + self.gathering.obtain_again(self.round)

    # -- after an append -------------------------------------------------------------------------

    def appended(self, now_s: float, note: bytes) -> list[fx.Effect]:
        """Something became durable, and `note` covers it: go on with what waited for it."""
        self._note = note
        if self.phase is Phase.RECORDING and self.round in self.past.published:
            return self._enter_gathering(now_s)
        if self.phase is Phase.CLOSING and self.past.standing is Standing.CLOSED:
            return self._end()
        if self.phase is Phase.CLOSING and self.round in self.past.averaged:
            return self._next_round(now_s)
        return []

    def _enter_gathering(self, now_s: float) -> list[fx.Effect]:
        self.phase, self._waits_for = Phase.GATHERING, ""
        self._watch.published_s = now_s
        at_s = now_s + self.manifest.study.round_deadline_s
        timer = fx.SetTimer(self.id, ev.RoundDeadline(self.id, self.round), at_s)
        offer = self.offer_update()
        return [*offer, timer, *self.gathering.enter(self.round), *self._gather(now_s)]

    def offer_update(self) -> list[fx.Effect]:
        """Tell the present neighbours of the own update, which is on record by now."""
        own = self.past.published.get(self.round)
        if own is None or self.phase is Phase.ENDED:
            return []
        message = UpdateAnnounced(
            study=self.id,
            round=self.round,
            hash=own.model,
            size=own.size_bytes,
            entry_seq=own.seq,
            entry_leaf=own.leaf,
            head=self._note,
            inline=b"",
            train_seq=own.train_seq,
        )
        sites = frozenset(self.gathering.hood.neighbours)
        expires_s = float(self.manifest.study.expires_s)
        return [fx.Offer(self.id, update_key(self.id), message, sites, expires_s)]

    # -- hearing ---------------------------------------------------------------------------------

    def model_ready(self, model: ModelHash) -> None:
        """A model came to lie on disk."""
        self._models.add(model)

    def obtained(self, event: ev.Obtained) -> None:
        """A neighbour's update is stored and sound."""
        self._models.add(event.model)
        self.gathering.obtained(event.round, event.sender)

    def obtain_failed(self, now_s: float, event: ev.ObtainFailed) -> list[fx.Effect]:
        """A broken promise is recorded as a rejection; a broken line is tried again."""
        if not event.hostile:
            self.gathering.failed(event.round, event.sender)
            return [fx.SetTimer(self.id, ev.Retry(self.id), now_s + RETRY_S)]
        heard = self.gathering.rejected(event.round, event.sender)
        shown = self._happened(
            "update_rejected", event.reason, site=event.sender.hex(), round=str(event.round)
        )
        if heard is None or (event.round, event.sender) in self.past.received:
            return [shown]
        draft = drafts.received_draft(self.id, heard, "rejected", event.reason)
        return [shown, fx.Append(self.id, (draft,))]

    def deadline(self, round_: Round) -> None:
        """The round's time is up: `advance` goes on with whoever was heard, if they suffice."""
        if self.phase is Phase.GATHERING and round_ == self.round:
            self.gathering.deadline(round_)

    # -- averaging -------------------------------------------------------------------------------

    def _gather(self, now_s: float) -> list[fx.Effect]:
        if self.gathering.ahead(self.round):
            return self._catch_up(now_s) or self.gathering.obtain_ahead(self.round)
        if not self.gathering.is_settled(self.round):
            return []
        ready, enough = self.gathering.ready(self.round), self.gathering.enough
        if len(ready) < enough:
            sentence = f"heard {len(ready)} neighbours, needs {enough}; goes on by itself"
            return self._wait("neighbours", sentence)
        own = self.past.published[self.round].model
        hood = self.gathering.hood
        inputs = tuple(ready.values())
        weights = weights_u(hood, self._me, tuple(ready))
        return self._ask_average(now_s, own, inputs, [weights[h.sender] for h in inputs])

    def _catch_up(self, now_s: float) -> list[fx.Effect]:
        """Adopt the robust average of neighbours that went on without us.

        The own model is old: it hardly counts, and is only the point the rule starts from."""
        inputs = self.gathering.catch_up(self.round)
        if not inputs or self._base not in self._models:
            return []
        target = target_round(inputs)
        self._skipped = range(self.round, target)
        self.round = target
        shares = self.gathering.hood.shares_u
        total = sum(shares[h.sender] for h in inputs)
        weights = [CATCH_UP_WEIGHT_U * shares[h.sender] // total for h in inputs]
        self._watch = Stopwatch(now_s, now_s, now_s)
        return self._ask_average(now_s, self._base, inputs, weights)

    def _ask_average(
        self, now_s: float, own: ModelHash, inputs: tuple[Heard, ...], weights: list[int]
    ) -> list[fx.Effect]:
        self.phase, self._waits_for, self._used = Phase.AVERAGING, "", inputs
        self._watch.gathered_s, self._watch.heard = now_s, len(inputs)
        self._average = fx.Average(
            self.id,
            self.round,
            self.manifest.averaging.rule,
            rule_parameters(self.manifest),
            own,
            tuple(fx.Input(h.sender, h.model, w) for h, w in zip(inputs, weights, strict=True)),
            self.manifest.study.parameters,
        )
        return [self._average]

    def averaged(
        self, now_s: float, event: ev.Averaged, log_ids: dict[bytes, bytes]
    ) -> list[fx.Effect]:
        """Record what was averaged with its inputs, before the result is used."""
        effect = self._average
        if self.phase is not Phase.AVERAGING or effect is None or event.round != self.round:
            return []
        self.phase = Phase.CLOSING
        self._models.add(event.model)
        self._watch.averaged_s, self._distance = now_s, event.distance
        published = self.past.published.get(self.round)
        own = published if published is not None and published.model == effect.own else None
        made = drafts.averaging_drafts(effect, self._used, log_ids, own, self._skipped, event)
        self._skipped = range(0)
        return [fx.Append(self.id, made)]

    def averaging_failed(self, event: ev.AveragingFailed) -> list[fx.Effect]:
        """Averaging refused inputs that had passed every check: stop rather than guess."""
        return self._leave("averaging-failed", event.message)

    def _next_round(self, now_s: float) -> list[fx.Effect]:
        done = self.round
        self._watch.closed_s, self._last = now_s, self._watch
        self._base = self.past.averaged[done]
        self.round = Round(done + 1)
        self.phase = Phase.WAITING
        score = fx.Score(self.id, done, self._base)
        return [score, *self.gathering.enter(self.round), *self._start_round(now_s)]

    # -- ending ----------------------------------------------------------------------------------

    def _finish(self) -> list[fx.Effect]:
        self.phase = Phase.CLOSING
        last = Round(self.manifest.study.rounds_total - 1)
        made = drafts.ending_drafts(self.id, last, self._base, self._distance, len(self._used))
        return [fx.Append(self.id, made)]

    def _end(self) -> list[fx.Effect]:
        self.phase = Phase.ENDED
        if self.past.closed_reason != "complete":
            return [fx.CloseTraining(self.id, now=True), fx.Withdraw(self.id, update_key(self.id))]
        return [fx.ReleaseModel(self.id, self._base)]

    def model_released(self) -> list[fx.Effect]:
        """The study is over: the final model lies where people find it."""
        sentence = (
            f"study {self.manifest.study.name} is complete: the model is released, its distance "
            f"from the neighbours' models is {self._distance:.1e} of its own length"
        )
        fields = {"distance": f"{self._distance:.6g}", "study": self.id.hex()}
        return [
            fx.CloseTraining(self.id, now=False),
            self._happened("study_complete", sentence, **fields),
        ]

    def _leave(self, reason: str, sentence: str) -> list[fx.Effect]:
        self.phase = Phase.CLOSING
        draft = drafts.leaving_draft(self.id, reason, self.round)
        return [
            fx.CloseTraining(self.id, now=True),
            self._happened("study_left", sentence, reason=reason),
            fx.Append(self.id, (draft,)),
        ]

    # -- telling people --------------------------------------------------------------------------

    def progress(self, event: ev.Scored) -> fx.Effect | None:
        """The line of a round that is complete, once its model has a score here."""
        if self._last is None:
            return None
        expected = len(self.gathering.hood.neighbours)
        return fx.Show(
            self.id, round_line(self.manifest, self.dataset, self._last, event, expected)
        )

    def _wait(self, code: str, sentence: str) -> list[fx.Effect]:
        if self._waits_for == sentence:
            return []
        self._waits_for = sentence
        return [fx.Show(self.id, fx.Waiting(code, sentence))]

    def _happened(self, name: str, sentence: str, **fields: str) -> fx.Effect:
        return fx.Show(self.id, fx.Happened(name, sentence, tuple(sorted(fields.items()))))
