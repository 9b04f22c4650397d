"""Models of other sites: taken from a message, or fetched, checked, and filed.

What a neighbour announces decides which file is asked for, never which of ours is removed: a file
that was here before stays, whatever a message claims about it.

The disk gets a model while others arrive or are averaged; `settled` waits for it, before anything
goes on record that was made of it. After a power cut in between, its digest shows the damage."""

import asyncio
import hashlib
import io
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossip.errors import BlobMismatch, TransportError
from gossip.identifiers import Digest, SiteId
from gossip.transport import Transport
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.names import ModelHash, StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import BlobDamaged, BlobError, NotFinite, OutsideRange
from p2pfl.runtime.holders import LOOK_S, Holders
from p2pfl.runtime.home import Home
from p2pfl.runtime.keeping import Keep, NoRoom, require_room_for
from p2pfl.runtime.vector_files import Layout, VectorFile

PARTS_PER_SITE_MAX: Final = 4
"""Unfinished transfers kept per study and neighbour, to be resumed."""
PATIENCE_S: Final = 10.0
"""The longest pause between two rounds of asking for a model that nobody gave yet."""


@dataclass(eq=False, slots=True)
class Transfer:
    """A model on its way."""

    study: StudyId
    site: SiteId
    size_bytes: int
    have_bytes: int = 0

    def had(self, have_bytes: int) -> None:
        """So much of it is on disk."""
        self.have_bytes = have_bytes


class ModelJobs:
    """Performs what needs other sites' models. Used from the node's loop."""

    def __init__(
        self,
        *,
        home: Home,
        blobs: BlobStore,
        transport: Transport,
        submit: Callable[[ev.Event], None],
        keep: Keep,
        show: Callable[[StudyId, fx.Notice], None],
        look_s: float = LOOK_S,
    ) -> None:
        """look_s: see `holders`."""
        self._incoming = home.incoming
        self._blobs = blobs
        self._transport = transport
        self._submit = submit
        self._keep = keep
        self._show = show
        self._look_s = look_s
        self._transfers: list[Transfer] = []
        self._wanted: set[tuple[StudyId, ModelHash]] = set()
        self._settling: dict[ModelHash, asyncio.Task[None]] = {}

    def transfers(self) -> tuple[Transfer, ...]:
        """What is being fetched now."""
        return tuple(self._transfers)

    async def obtain(self, effect: fx.Obtain) -> None:
        """Have a neighbour's update on disk, sound; or say what is wrong, and whose fault it is."""

        def failed(reason: str, *, hostile: bool) -> ev.ObtainFailed:
            return ev.ObtainFailed(
                effect.study, effect.round, effect.sender, effect.model, reason, hostile
            )

        try:
            sound = Sound(Layout(effect.encoding, effect.parameters), effect.value_max)
            if effect.inline:
                await asyncio.to_thread(self._store_inline, effect.inline, sound)
            else:
                size_bytes = sound.layout.size_bytes
                transfer = Transfer(effect.study, effect.sender, size_bytes)
                await self._fetch(transfer, effect.model, sound)
        except NotFinite:
            self._submit(failed("not-finite", hostile=True))
        except OutsideRange:
            self._submit(failed("out-of-range", hostile=True))
        except BlobMismatch:
            self._submit(failed("wrong-digest", hostile=True))
        except BlobError:
            self._submit(failed("wrong-shape", hostile=True))
        except NoRoom as error:
            sentence = f"a neighbour's update is not fetched: {error}; free or raise the budget"
            self._show(effect.study, fx.Happened("no_room", sentence, ()))
            self._submit(failed("no-room", hostile=False))
        except (TransportError, OSError):
            self._submit(failed("not-fetched", hostile=False))
        else:
            self._submit(ev.Obtained(effect.study, effect.round, effect.sender, effect.model))

    async def fetch_model(self, effect: fx.FetchModel) -> None:
        """Ask the holders until the model is here; patient, never busy."""
        wanted = (effect.study, effect.model)
        if wanted in self._wanted:
            return  # asked for again while it is still being looked for
        self._wanted.add(wanted)
        holders, wait_s = Holders(effect.sites, self._look_s), 0.2
        try:
            while True:
                site = holders.next()
                if site is None:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, PATIENCE_S)
                    holders.try_again()
                    continue
                try:
                    is_here = await self._fetch_a_while(effect, site, holders)
                except (TransportError, BlobError, OSError):
                    holders.failed(site)
                    continue
                if is_here:
                    self._submit(ev.ModelReady(effect.study, effect.model))
                    return
        finally:
            self._wanted.discard(wanted)

    async def _fetch_a_while(self, effect: fx.FetchModel, site: SiteId, holders: Holders) -> bool:
        """Have a model of one holder; False where another one is to be tried.

        Raises BlobError, TransportError, OSError."""
        sound = Sound(Layout("float32", effect.parameters))
        transfer = Transfer(effect.study, site, sound.layout.size_bytes)
        fetching = asyncio.ensure_future(self._fetch(transfer, effect.model, sound))
        try:
            while not (await asyncio.wait({fetching}, timeout=holders.look_s))[0]:
                have = transfer.have_bytes
                left_bytes = transfer.size_bytes - have
                if not holders.keeps(site, have_bytes=have, left_bytes=left_bytes):
                    return False  # what came of it stays, should it be asked again
            fetching.result()
        finally:
            fetching.cancel()
            await asyncio.wait({fetching})
        await self.settled((effect.model,))
        await asyncio.to_thread(self._forget_other_parts, effect)
        return True

    def _forget_other_parts(self, effect: fx.FetchModel) -> None:
        for site in effect.sites:
            place = self._place(effect.study, site, effect.model)
            for path in (place, place.with_suffix(".part")):
                path.unlink(missing_ok=True)

    def _place(self, study: StudyId, site: SiteId, model: ModelHash) -> Path:
        """Where a model of a neighbour's arrives.

        A place per neighbour: whoever announces another's model and serves it slowly must not keep
        us from fetching it where it comes from."""
        return self._incoming / study.hex() / site.hex() / model.hex()

    def keep_initial(self, effect: fx.KeepProposal) -> None:
        """Store the initial model that came with a proposal, if it is what the manifest names."""
        wanted = effect.manifest.study.initial_model
        if hashlib.sha256(effect.initial).digest() == wanted and not self._blobs.has(wanted):
            self._blobs.put_bytes(effect.initial)

    async def settled(self, models: Iterable[ModelHash]) -> None:
        """Return once the disk keeps those of the models that were fetched. Raises OSError."""
        for model in models:
            syncing = self._settling.get(model)
            if syncing is not None:
                await asyncio.wait({syncing})
                self._settling.pop(model, None)
                syncing.result()

    async def stop(self) -> None:
        """Wait for the disk."""
        await asyncio.gather(*self._settling.values(), return_exceptions=True)

    def _settle(self, model: ModelHash) -> None:
        syncing = self._settling.get(model)
        if syncing is not None and not syncing.done():
            return
        job = asyncio.to_thread(self._blobs.sync, model)
        syncing = self._settling[model] = asyncio.get_running_loop().create_task(job)
        syncing.add_done_callback(lambda task: self._forget_settled(model, task))

    def _forget_settled(self, model: ModelHash, task: asyncio.Task[None]) -> None:
        # What failed stays, for whoever needs that model.
        if self._settling.get(model) is task and not task.cancelled() and not task.exception():
            del self._settling[model]

    def forget_parts(self, study: StudyId) -> None:
        """Nothing of this study will be resumed any more."""
        shutil.rmtree(self._incoming / study.hex(), ignore_errors=True)

    def _store_inline(self, data: bytes, sound: "Sound") -> None:
        _require_sound(VectorFile(io.BytesIO(data), size_bytes=len(data)), sound)
        self._blobs.put_bytes(data)

    async def _fetch(self, transfer: Transfer, model: ModelHash, sound: "Sound") -> None:
        """Have a model on disk, whole and sound. Raises BlobError, TransportError, OSError."""
        if self._blobs.has(model):
            try:
                await asyncio.to_thread(self._require_stored, model, sound)
                self._settle(model)
                return
            except BlobDamaged:  # by our own disk: have it once more
                pass
        site, size_bytes = transfer.site, transfer.size_bytes
        into = self._place(transfer.study, site, model)
        await asyncio.to_thread(_make_folder, into.parent, keep=into)
        await asyncio.to_thread(self._make_room, size_bytes)
        self._transfers.append(transfer)
        try:
            await self._transport.fetch(site, Digest(model), size_bytes, into, transfer.had)
        finally:
            self._transfers.remove(transfer)
        await asyncio.to_thread(self._take_in, into, model, sound)
        self._settle(model)

    def _make_room(self, size_bytes: int) -> None:
        """On disk and in memory. Raises NoRoom, OSError."""
        require_room_for(self._blobs.directory, size_bytes, self._keep)
        self._blobs.make_room(size_bytes)

    def _require_stored(self, model: ModelHash, sound: "Sound") -> None:
        self._blobs.check(model)
        with self._blobs.path(model).open("rb", buffering=0) as file:
            _require_sound(VectorFile(file), sound)

    def _take_in(self, into: Path, model: ModelHash, sound: "Sound") -> None:
        """File what was fetched under its digest, which the transport verified, if it is sound."""
        try:
            with into.open("rb", buffering=0) as file:
                _require_sound(VectorFile(file), sound)
            into.replace(self._blobs.path(model))
        finally:
            into.unlink(missing_ok=True)
        self._blobs.vouch(model)


@dataclass(frozen=True, slots=True)
class Sound:
    """What a model has to be. value_max: no value may be larger; 0: any finite one may come."""

    layout: Layout
    value_max: float = 0.0


def _require_sound(opened: VectorFile, sound: Sound) -> None:
    """Look at every value once, a block at a time.

    Raises NotAVector, WrongLength, NotFinite, OutsideRange, OSError."""
    opened.require(sound.layout.parameters, sound.layout.encoding)
    for block in opened.blocks():
        largest = max(-float(block.min()), float(block.max())) if sound.value_max else 0.0
        if largest > sound.value_max:
            raise OutsideRange(f"a value exceeds {sound.value_max:g}")


def _make_folder(folder: Path, *, keep: Path) -> None:
    """A neighbour's directory for parts: its newest ones only, or stalled transfers fill the disk.

    keep: the file that is about to be fetched; its part is never removed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    parts = [path for path in folder.iterdir() if not path.name.startswith(keep.name)]
    parts.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in parts[: max(0, len(parts) - (PARTS_PER_SITE_MAX - 1))]:
        path.unlink(missing_ok=True)
