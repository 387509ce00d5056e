"""A bounded queue that is fair between clients: who had least of the machine goes first.

Start-time fair queueing (Goyal, Vin and Cheng 1996) over tokens: a client's turn is counted by the tokens it was given; one
that comes anew begins where the least served of those waiting stands, so that nobody saves up turns by staying away.
"""

from __future__ import annotations

import collections
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


class FairQueue(Generic[Item]):
    """Items of many clients. ``most_tokens`` may wait, for at most ``most_seconds`` at the pace that was last seen."""

    def __init__(self, most_tokens: int, most_seconds: float, pace: float = 5_000.0) -> None:
        self.most_tokens, self.most_seconds = most_tokens, most_seconds
        self.pace = pace  # tokens a second
        self.tokens = 0
        self._waiting: dict[str, collections.deque[Item]] = {}
        self._served: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(item.waiting for line in self._waiting.values() for item in line)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def seconds(self) -> float:
        """How long the last of those waiting will wait."""
        return self.tokens / self.pace

    def check(self, more: int) -> None:
        """Whether so many tokens more may wait. Raises :class:`Full`."""
        if not self.tokens:
            return
        state = {
            "tokens": self.tokens, "most_tokens": self.most_tokens, "seconds": round(self.seconds, 3),
            "most_seconds": self.most_seconds,
        }  # fmt: skip
        if self.tokens + more > self.most_tokens:
            message = f"the queue is full: {self.tokens:,} of {self.most_tokens:,} tokens"
            raise Full(message, (self.tokens + more - self.most_tokens) / self.pace, state)
        if self.seconds > self.most_seconds:
            message = f"the queue is {self.seconds:.1f} s long; at most {self.most_seconds:g} are accepted"
            raise Full(message, self.seconds - self.most_seconds, state)

    def put(self, items: list[Item]) -> None:
        """Let all items of a request wait, or none. Raises :class:`Full`."""
        self.check(sum(item.tokens for item in items))
        for item in items:
            if item.client not in self._waiting:
                self._waiting[item.client] = collections.deque()
                least = min((self._served[client] for client in self._waiting if client in self._served), default=0.0)
                self._served[item.client] = least
            self._waiting[item.client].append(item)
            item.waiting = True
            self.tokens += item.tokens

    def drop(self, item: Item) -> None:
        """An item that nobody waits for any more makes room at once."""
        if item.waiting:
            item.waiting = False
            self.tokens -= item.tokens

    def take(self, budget: int) -> list[Item]:
        """The next items, of up to ``budget`` tokens together and at least one, if any wait."""
        taken: list[Item] = []
        left = budget
        while self._waiting:
            client = min(self._waiting, key=lambda name: self._served[name])
            line = self._waiting[client]
            item = line[0]
            if item.waiting and taken and item.tokens > left:
                break
            line.popleft()
            if item.waiting:
                self.drop(item)
                taken.append(item)
                left -= item.tokens
                self._served[client] += item.tokens
            if not line:
                del self._waiting[client], self._served[client]
        return taken

    def put_back(self, items: list[Item]) -> None:
        """Items that were taken and not finished go to the front of their lines."""
        for item in reversed(items):
            self._waiting.setdefault(item.client, collections.deque()).appendleft(item)
            self._served.setdefault(item.client, 0.0)
            item.waiting = True
            self.tokens += item.tokens

    def observe(self, tokens: int, seconds: float, budget: int) -> None:
        """What was done in a time: the pace follows it, by how full the ``budget`` was. A few tokens by themselves take longer
        than their share."""
        if tokens and seconds > 0:
            self.pace += 0.2 * min(1.0, tokens / budget) * (tokens / seconds - self.pace)
