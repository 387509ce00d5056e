"""How much work a request will be, before anybody has counted its tokens: by its letters, and by what was counted before."""

from __future__ import annotations

from collections.abc import Sequence

from halbert.serve.jobs import Operation

LETTERS, FEWEST, MOST = 3.0, 1.0, 8.0  # characters a token: until some were counted, and what is believed at all
REMEMBERED = 20_000  # tokens whose letters count, about
WINDOWS = 4 / 3  # places a token, where windows overlap
TIMES = {"compare": 3.0}  # work a token, where it is more than one pass
MASK, A_MASK = "[MASK]", 8  # and what the vocabulary costs for each


class Estimate:
    """Tokens by letters, at the rate of the texts that were counted last; whatever those were, a rate that texts can have."""

    def __init__(self) -> None:
        self._letters, self._tokens = LETTERS * REMEMBERED / 10, REMEMBERED / 10

    @property
    def letters(self) -> float:
        """Characters a token."""
        return self._letters / self._tokens

    def learn(self, letters: int, tokens: int) -> None:
        """So many letters were so many tokens. A few odd texts say little of others."""
        if tokens:
            fading = max(0.0, 1 - tokens / REMEMBERED)
            self._letters = fading * self._letters + min(MOST * tokens, max(FEWEST * tokens, letters))
            self._tokens = fading * self._tokens + tokens

    def tokens(
        self, texts: Sequence[str], pairs: Sequence[str] | None, longest: int, operation: Operation = "embed",
        window: bool = False,
    ) -> list[int]:  # fmt: skip
        """Of each text, and more where more than a pass is asked for; ``window``: what is longer than the model is read whole."""
        found = []
        for text, pair in zip(texts, pairs if pairs is not None else [""] * len(texts), strict=True):
            tokens = (len(text) + len(pair)) / self.letters
            tokens = tokens * WINDOWS if window else min(longest, tokens)
            if operation == "fill":
                tokens += A_MASK * text.count(MASK)
            found.append(2 + int(tokens * TIMES.get(operation, 1.0)))
        return found


def cut(tokens: Sequence[int], most: int) -> list[tuple[int, int, int]]:
    """(start, stop, tokens) of runs of texts that have at most ``most`` tokens together, or are one text."""
    runs: list[tuple[int, int, int]] = []
    start = total = 0
    for i, count in enumerate(tokens):
        if i > start and total + count > most:
            runs.append((start, i, total))
            start, total = i, 0
        total += count
    if tokens:
        runs.append((start, len(tokens), total))
    return runs
