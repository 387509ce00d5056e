"""A bounded queue that is fair between clients: who had least of the machine goes first.

Start-time fair queueing (Goyal, Vin and Cheng 1996) over tokens: a client's turn is counted by the tokens it was given; one
that comes anew begins where the least served of those waiting stands, so that nobody saves up turns by staying away. By the
same rule it is decided who may wait: only what would be served before a request stands in its way, so that a client that
asks for more than there is room for does not lock others out.
"""

from __future__ import annotations

import collections
import heapq
import itertools
from typing import Generic, Protocol, TypeVar

from halbert.errors import HalbertError


class Waiting(Protocol):
    """Something that waits; whether it still does is the queue's to say."""

    client: str
    tokens: int
    waiting: bool


Item = TypeVar("Item", bound=Waiting)


class Full(HalbertError):
    """There is no room, or it would take too long; ``seconds`` from now there will be. ``state``: the queue's, for the client."""

    def __init__(self, message: str, seconds: float, state: dict[str, float]) -> None:
        super().__init__(message)
        self.seconds, self.state = max(1.0, seconds), state


class _Line(Generic[Item]):
    """What waits of one client: its items (some of which nobody waits for any more), their tokens, and what it was given."""

    def __init__(self, served: float, number: int) -> None:
        self.items: collections.deque[Item] = collections.deque()
        self.tokens = 0
        self.served, self.number = served, number


class FairQueue(Generic[Item]):
    """Items of many clients. ``most_tokens`` may wait, for at most ``most_seconds`` at the pace that was last seen."""

    def __init__(self, most_tokens: int, most_seconds: float, pace: float = 5_000.0) -> None:
        self.most_tokens, self.most_seconds = most_tokens, most_seconds
        self.pace = pace  # tokens a second
        self.tokens = 0
        self._lines: dict[str, _Line[Item]] = {}
        self._turns: list[tuple[float, int, str]] = []  # a heap with every line once
        self._numbers = itertools.count()  # of lines: of those that were served alike the oldest goes first
        self._live = self._gone = 0  # items that somebody waits for, and others

    def __len__(self) -> int:
        return self._live

    def __bool__(self) -> bool:
        return self._live > 0

    @property
    def seconds(self) -> float:
        """How long the last of those waiting will wait."""
        return self.tokens / self.pace

    def _before(self, client: str, more: int) -> int:
        """Tokens that are served before ``more`` of a client's are: of others no more than it has itself."""
        line = self._lines.get(client)
        own = 0 if line is None else line.tokens
        return own + sum(min(other.tokens, own + more) for other in self._lines.values() if other is not line)

    def check(self, more: int, client: str = "") -> None:
        """Whether so many tokens more of a client may wait; of an empty queue everything can be had. Raises :class:`Full`."""
        if not self.tokens or (self.tokens + more <= self.most_tokens and self.seconds <= self.most_seconds):
            return
        before = self._before(client, more)
        seconds = before / self.pace
        state = {
            "tokens": before, "most_tokens": self.most_tokens, "seconds": round(seconds, 3), "most_seconds": self.most_seconds,
        }  # fmt: skip
        if before + more > self.most_tokens:
            message = (
                f"the queue is full: {before:,} tokens are before these {more:,}, and {self.most_tokens:,} may wait"
            )
            raise Full(message, min(before, before + more - self.most_tokens) / self.pace, state)
        if seconds > self.most_seconds:
            message = f"the queue is {seconds:.1f} s long; at most {self.most_seconds:g} are accepted"
            raise Full(message, seconds - self.most_seconds, state)

    def put(self, items: list[Item]) -> None:
        """Let all items of a client's request wait, or none. Raises :class:`Full`."""
        if items:
            self.check(sum(item.tokens for item in items), items[0].client)
        for item in items:
            self._line(item.client).items.append(item)
            self._counted(item)

    def _line(self, client: str) -> _Line[Item]:
        """A client's line; a new one begins where the least served stands."""
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line(self._turns[0][0] if self._turns else 0.0, next(self._numbers))
            heapq.heappush(self._turns, (line.served, line.number, client))
        return line

    def _counted(self, item: Item) -> None:
        item.waiting = True
        self.tokens += item.tokens
        self._lines[item.client].tokens += item.tokens
        self._live += 1

    def drop(self, item: Item) -> None:
        """An item that nobody waits for any more makes room at once."""
        if item.waiting:
            self._uncounted(item)
            self._gone += 1
            if self._gone > self._live:  # so that what is kept of them never grows beyond what waits
                self._sweep()

    def _uncounted(self, item: Item) -> None:
        item.waiting = False
        self.tokens -= item.tokens
        self._lines[item.client].tokens -= item.tokens
        self._live -= 1

    def _sweep(self) -> None:
        self._gone = 0
        for line in self._lines.values():
            line.items = collections.deque(item for item in line.items if item.waiting)
        self._lines = {client: line for client, line in self._lines.items() if line.items}
        self._turns = [(line.served, line.number, client) for client, line in self._lines.items()]
        heapq.heapify(self._turns)

    def take(self, budget: int) -> list[Item]:
        """The next items, of up to ``budget`` tokens together and at least one, if any wait."""
        taken: list[Item] = []
        left = budget
        while self._turns:
            _, number, client = self._turns[0]
            line = self._lines[client]
            item = line.items[0]
            if item.waiting and taken and item.tokens > left:
                break
            line.items.popleft()
            if item.waiting:
                self._uncounted(item)
                taken.append(item)
                left -= item.tokens
                line.served += item.tokens
            else:
                self._gone -= 1
            if line.items:
                heapq.heapreplace(self._turns, (line.served, number, client))
            else:
                heapq.heappop(self._turns)
                del self._lines[client]
        return taken

    def put_back(self, items: list[Item]) -> None:
        """Items that were taken and not begun go to the front of their lines."""
        for item in reversed(items):
            self._line(item.client).items.appendleft(item)
            self._counted(item)

    def observe(self, tokens: int, seconds: float, budget: int) -> None:
        """What was done in a time: the pace follows it, by how full the ``budget`` was. A few tokens by themselves take longer
        than their share."""
        if tokens and seconds > 0:
            self.pace += 0.2 * min(1.0, tokens / budget) * (tokens / seconds - self.pace)
