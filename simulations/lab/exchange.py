"""What the parts of a split world tell each other at the end of each window of virtual time.

A message between sites takes at least the network's shortest delay. So whatever is sent from now
on arrives that much later, and until then no part needs to hear of another one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from typing import Final, Protocol

import msgpack
import numpy as np
from numpy.typing import NDArray

from gossip.messages import UpdateAnnounced
from p2pfl.runtime.errors import OperatorError

Vector = NDArray[np.float32]
Place = tuple[float, int, int]
"""When it is due, its rank among what is due then, number of the site it goes to."""
_FIELDS: Final = tuple(field.name for field in fields(UpdateAnnounced))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a part has come, or all of them together."""

    next_s: float
    """When its next event is due; infinite without one."""
    complete: int
    """Sites that have closed the study."""
    rounds_done: int


@dataclass(slots=True)
class Parcel:
    """One announcement with its model, and which sites of other parts it is for."""

    source: int
    message: UpdateAnnounced
    model: Vector
    places: list[Place]


class Exchange(Protocol):
    """How a part hears of the others."""

    def swap(self, standing: Standing, sent: Sequence[Parcel]) -> tuple[Standing, list[Parcel]]:
        """Tell all others; returns how all stand together, and what came for this part."""


class Alone:
    """A world in one piece."""

    def swap(self, standing: Standing, sent: Sequence[Parcel]) -> tuple[Standing, list[Parcel]]:
        """There is nobody to tell."""
        assert not sent, "every site is here"
        return standing, []


class Mesh:
    """A part among others, with a line to each of them.

    lines: part → connection. part_of: number of a site → its part."""

    def __init__(self, me: int, lines: dict[int, Connection], part_of: Sequence[int]) -> None:
        self._me = me
        self._lines = dict(sorted(lines.items()))
        self._part_of = part_of

    def swap(self, standing: Standing, sent: Sequence[Parcel]) -> tuple[Standing, list[Parcel]]:
        """One after the other, the lower part first: nobody waits for who waits for it.

        Raises OperatorError if another part is gone."""
        due_s = min((due for parcel in sent for due, _, _ in parcel.places), default=math.inf)
        told = Standing(min(standing.next_s, due_s), standing.complete, standing.rounds_done)
        found: list[Parcel] = []
        next_s, complete, rounds_done = told.next_s, told.complete, told.rounds_done
        for part, line in self._lines.items():
            letter = _packed(told, self._for_part(part, sent))
            try:
                if self._me < part:
                    line.send_bytes(letter)
                    heard, parcels = _unpacked(line.recv_bytes())
                else:
                    heard, parcels = _unpacked(line.recv_bytes())
                    line.send_bytes(letter)
            except (EOFError, OSError) as error:
                raise OperatorError(
                    "one of the simulation's processes has ended",
                    fix="see its message above; with --workers 1 there is one process",
                ) from error
            next_s = min(next_s, heard.next_s)
            complete += heard.complete
            rounds_done += heard.rounds_done
            found += parcels
        return Standing(next_s, complete, rounds_done), found

    def _for_part(self, part: int, sent: Sequence[Parcel]) -> list[Parcel]:
        if len(self._lines) == 1:
            return list(sent)
        found = []
        for parcel in sent:
            places = [place for place in parcel.places if self._part_of[place[2]] == part]
            if places:
                found.append(Parcel(parcel.source, parcel.message, parcel.model, places))
        return found


def _packed(standing: Standing, parcels: Sequence[Parcel]) -> bytes:
    head = (standing.next_s, standing.complete, standing.rounds_done)
    body = [
        (
            parcel.source,
            [getattr(parcel.message, name) for name in _FIELDS],
            parcel.model.tobytes(),
            parcel.places,
        )
        for parcel in parcels
    ]
    packed: bytes = msgpack.packb((head, body))
    return packed


def _unpacked(letter: bytes) -> tuple[Standing, list[Parcel]]:
    """From a process that this one trusts: its own."""
    head, body = msgpack.unpackb(letter, use_list=False)
    parcels = [
        Parcel(source, UpdateAnnounced(*values), np.frombuffer(model, np.float32), list(places))
        for source, values, model, places in body
    ]
    return Standing(*head), parcels
