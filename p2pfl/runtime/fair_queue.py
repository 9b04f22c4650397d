"""What waits to be looked at, by whoever caused it: each takes its turn, and none fills it alone.

May be used from any thread. Must not know what waits in it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
OWN: Final = None
"""Whatever nobody else caused: it comes first, and is left out only where nothing else waits."""


class FairQueue(Generic[T]):
    """At most `items_max`; what does not fit is left out of the source of which most waits.

    >>> waiting = FairQueue[str](3)
    >>> [waiting.put("a", "a1"), waiting.put("a", "a2"), waiting.put("a", "a3")]
    [True, True, True]
    >>> waiting.put("a", "a4"), waiting.put("b", "b1")
    (False, False)
    >>> [waiting.get(0.0) for _ in range(4)]
    ['a1', 'b1', 'a2', None]
    """

    def __init__(self, items_max: int) -> None:
        self._max = items_max
        self._size = 0
        self._by_source: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._changed = threading.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        """How much waits, of all sources."""
        return self._size

    def put(self, source: Hashable, item: T) -> bool:
        """Have it wait; False where something had to be left out: this, or a newer one."""
        with self._changed:
            fits = self._size < self._max
            if not fits and not self._make_room(source):
                return False
            self._by_source.setdefault(source, deque()).append(item)
            self._size += 1
            self._changed.notify()
            return fits

    def get(self, timeout_s: float) -> T | None:
        """The next one in turn; None if nothing comes in time, or after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._size or self._is_closed, timeout_s)
            if not self._size:
                return None
            source = OWN if OWN in self._by_source else next(iter(self._by_source))
            items = self._by_source[source]
            item = items.popleft()
            self._size -= 1
            self._by_source.move_to_end(source)
            if not items:
                del self._by_source[source]
            return item

    def close(self) -> None:
        """Nobody waits here any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _make_room(self, source: Hashable) -> bool:
        others = (other for other in self._by_source if other is not OWN)
        fullest = max(others, key=lambda other: len(self._by_source[other]), default=OWN)
        if fullest is OWN or fullest == source:
            return False
        items = self._by_source[fullest]
        if source is not OWN and len(items) <= len(self._by_source.get(source, ())) + 1:
            return False
        items.pop()
        self._size -= 1
        if not items:
            del self._by_source[fullest]
        return True
