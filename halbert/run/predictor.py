"""Predictor: texts in, typed answers out. It has a bundle and a backend; ``halbert.load`` lives here."""

from __future__ import annotations

import collections
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from halbert.bundle import Bundle, Pooling
from halbert.cluster import ClusterLike, connection
from halbert.data.batches import Rows
from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.run.backend import Backend, Precision
from halbert.run.batching import Long, Work, in_batches, prepare
from halbert.run.windows import Window, answer_of, joined
from halbert.source import has_only_int8, resolve_bundle
from halbert.spec import ForeignSpec
from halbert.tasks.decoding import check_finite, decode_label, decode_score, decode_span, decode_tags, softmax

BackendName = Literal["auto", "openvino", "torch"]
Progress = Callable[[int], None]
FEW = 256  # rows, of which the batches may be made before the first is run


def _quiet(_: int) -> None:
    """No progress wanted."""


def load(
    model: str | Bundle,
    head: str | None = None,
    precision: Precision = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    backend: BackendName = "auto",
    compile: bool = False,
    cluster: ClusterLike | None = None,
) -> Predictor:
    """A predictor for a model folder, a released name, a hub name or a bundle.

    ``compile``: the torch engine compiles the model, which takes a while for every new width of a batch and pays for many
    texts on a GPU. With ``cluster`` (:func:`halbert.cluster.connection`) what has more than one batch is computed by its workers,
    to the same bits; each call starts their engines, so that it is for many texts at a time.

    Raises :class:`halbert.errors.InputError` when the model cannot be had or has no such head.
    """
    if not isinstance(model, Bundle):
        model = resolve_bundle(model, int8=precision == "int8" or (precision == "auto" and has_only_int8(model)))
    bundle = model
    if head is not None:
        bundle.head(head)
    predictor = Predictor(bundle, open_backend(bundle, backend, precision, device, threads, compile), head)
    if (connect := connection(cluster)) is not None:
        from halbert.run.spread import SpreadBackend

        how = {"backend": backend, "precision": precision, "device": device, "compile": compile}
        predictor.backend = SpreadBackend(predictor, connect, threads, **how)
    return predictor


def open_backend(
    bundle: Bundle,
    backend: BackendName = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    threads: int | None = None,
    compile: bool = False,
) -> Backend:
    """The engine for a bundle: OpenVINO on CPUs; torch for a GPU, to compile, or where OpenVINO is not installed."""
    foreign = isinstance(bundle.spec.encoder, ForeignSpec)
    if foreign and backend == "openvino":
        raise InputError(f"{bundle.name}: is of another architecture, which runs in PyTorch alone; use --backend torch")
    if backend == "auto":
        wanted = foreign or device == "cuda" or compile or precision == "fp16"
        backend = "torch" if wanted or not importlib.util.find_spec("openvino") else "openvino"
    if backend == "torch":
        from halbert.run.torch_backend import TorchBackend

        return TorchBackend(bundle, precision, device, threads, compile)
    if device == "cuda":
        raise InputError("the openvino backend runs on CPUs; for a GPU use --backend torch")
    if compile:
        raise InputError("the openvino backend compiles every model; --compile is for --backend torch")
    from halbert.run.openvino_backend import OpenVINOBackend

    return OpenVINOBackend(bundle, precision, threads)


def candidate_scores(bundle: Bundle, name: str, pooled: np.ndarray) -> np.ndarray:
    """What a head that chooses says of each candidate (N, 1), out of its pooled state (N, H)."""
    weight, bias = (bundle.arrays[f"heads.{name}.dense.{part}"] for part in ("weight", "bias"))
    return np.asarray(pooled @ weight.T + bias)


class Computed(NamedTuple):
    """A batch that went through the engine: its rows, the positions they fill together, and the pieces among these."""

    rows: int
    places: int
    pieces: int


class Predictor:
    """Answers of one bundle through one backend. Texts are sorted by length and batched by tokens; order is kept."""

    def __init__(self, bundle: Bundle, backend: Backend, head: str | None = None) -> None:
        self.bundle = bundle
        self.backend = backend
        self.head = head
        self.cut = 0  # texts of the last call that were cut to ``length`` pieces
        self.first = 0  # the number of the first text, where an error names one
        self.windowed = 0  # those that were read in windows of ``length``
        self.batches: list[Computed] = []  # of the last call
        self.together: int | None = None  # batches that few texts are shared out among, if not as the engine likes best
        self.length = self.longest

    @property
    def longest(self) -> int:
        """Most pieces a sequence may have, special tokens included."""
        return self.bundle.spec.encoder.max_position_embeddings

    def prepare(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        max_length: int | None = None,
        long: Long = "truncate",
    ) -> Work:
        """Texts or pairs as ids. Raises :class:`InputError` when ``max_length`` exceeds the model's positions."""
        length = self.longest if max_length is None else max_length
        if length > self.longest:
            raise InputError(f"max_length {length} exceeds this model's {self.longest} positions")
        work = prepare(texts, pairs, self.bundle.tokenizer, length, long)
        self.length = length
        self.cut, self.windowed, self.batches = work.cut, work.windowed, []
        return work

    def run(
        self,
        work: Work,
        output: str,
        batch_tokens: int | None = None,
        progress: Progress = _quiet,
        exact: bool = False,
        of: Sequence[int] | None = None,
    ) -> Iterator[tuple[np.ndarray, Rows, np.ndarray]]:
        """(row numbers, batch, values) of one output as the engine gives it, longest rows first.

        Raises :class:`HalbertError` naming the text for which a value is not finite (``of`` which each one is, if the
        texts are candidates).
        """
        pad = self.bundle.tokenizer.special_ids["pad"]
        favoured = self.backend.favoured
        favoured = favoured._replace(
            tokens=batch_tokens or favoured.tokens, together=self.together or favoured.together
        )
        batches = list(in_batches(work.rows, pad, favoured, self.longest, exact)) if len(work.rows) < FEW else None
        many = batches or in_batches(work.rows, pad, favoured, self.longest, exact)
        seen = np.bincount(work.unique, minlength=len(work.first)) if len(work.first) else work.first
        last = np.append(work.owner[1:] != work.owner[:-1], True)  # a text is done with its last window
        ahead: collections.deque[tuple[np.ndarray, Rows]] = collections.deque()
        # One batch may have all cores; but several rows only of an engine that computes what is padding too.
        alone = batches is not None and len(batches) == 1 and not exact and (len(work.rows) == 1 or not favoured.sizes)

        def fed() -> Iterator[Rows]:
            for group, batch in many:
                ahead.append((group, batch))
                pieces = int(batch.mask.sum())
                places = favoured.size(pieces) if favoured.sizes and not alone else batch.ids.size
                self.batches.append(Computed(len(batch.ids), places, pieces))
                yield batch

        if alone:
            found: Iterator[dict[str, np.ndarray]] = (self.backend.forward(batch, [output]) for batch in fed())
        else:
            found = self.backend.stream(fed(), [output])
        for result in found:
            group, batch = ahead.popleft()
            numbers = work.first[work.owner[group]]
            check_finite(result[output], self.first + (numbers if of is None else np.asarray(of)[numbers]), output)
            yield group, batch, result[output]
            progress(int(seen[work.owner[group[last[group]]]].sum()))

    def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        long: Long = "truncate",
        batch_tokens: int | None = None,
        exact: bool = False,
        progress: Progress = _quiet,
    ) -> np.ndarray:
        """One vector a text (N, H): the mean of all pieces ([CLS] and [SEP] too), the first state, or the pooler's.

        ``pooling`` and ``normalize`` default to what the model's folder says. A text longer than ``max_length`` (default:
        the model's positions) is cut, or with ``long="window"`` read in windows that overlap by a quarter: the mean is
        over every piece once, as the window with most context around it has it; first states and pooler's are averaged by
        the windows' own pieces. Equal texts are computed once. ``exact``: every text by itself, so that its vector never
        differs in a bit (slower).
        """
        pooling = pooling or self.bundle.pooling
        normalize = self.bundle.normalize if normalize is None else normalize
        output = {"pooler": "pooled", "cls": "first", "mean": "last"}[pooling]
        work = self.prepare(texts, None, max_length, long)
        vectors = np.zeros((len(work.rows), self.bundle.spec.encoder.hidden_size), np.float32)
        for rows, batch, values in self.run(work, output, batch_tokens, progress, exact):
            if pooling == "mean":
                mask = batch.mask
                if work.windows:
                    mask = np.stack([work.own(int(row), some) for row, some in zip(rows, mask, strict=True)])
                weights = mask[:, None, :].astype(np.float32)
                vectors[rows] = (weights @ values)[:, 0] / weights.sum(2)
            else:
                vectors[rows] = values
        vectors = work.gather(vectors)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        long: Long = "truncate",
        batch_tokens: int | None = None,
        exact: bool = False,
        progress: Progress = _quiet,
    ) -> np.ndarray:
        """The chosen head's raw outputs (N, C), for heads that give one row a text.

        With ``long="window"`` a long text (of a pair the second) has the mean of its windows, each by its own pieces.
        """
        name, head = self.answering("label", "score")
        work = self.prepare(texts, pairs, max_length, long)
        table = np.zeros((len(work.rows), head.width), np.float32)
        for rows, _, values in self.run(work, name, batch_tokens, progress, exact):
            table[rows] = values
        return work.gather(table)

    def answering(self, *kinds: str) -> tuple[str, HeadSpec]:
        """The head that answers, and its name. Raises :class:`InputError` for a kind that is not wanted here."""
        name, head = self.bundle.head(self.head)
        if kinds and head.kind not in kinds:
            raise InputError(f"head {name!r} is of kind {head.kind}; this needs one of kind {' or '.join(kinds)}")
        return name, head

    def predict(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        long: Long = "truncate",
        batch_tokens: int | None = None,
        exact: bool = False,
        progress: Progress = _quiet,
    ) -> list[dict[str, Any]]:
        """One answer a text, in input order: ``label`` and ``probabilities``, ``score``, ``entities`` or ``answer``.

        A span head answers ``texts``, the questions, out of ``pairs``. With ``long="window"`` classes and scores are those
        of :meth:`logits`, every word has the label of the window with most context around it, and an answer is the best
        of all windows (none where no window has one).
        """
        name, head = self.answering("label", "score", "tag", "span", "choice")
        if head.kind == "choice":
            raise InputError(f"head {name!r} chooses among candidates; give them to choose(texts, choices)")
        if head.kind in ("tag", "span"):
            return self._places(name, head, texts, pairs, max_length, long, batch_tokens, exact, progress)
        table = self.logits(
            texts, pairs, max_length=max_length, long=long, batch_tokens=batch_tokens, exact=exact, progress=progress
        )
        return [decode_label(row, head) if head.kind == "label" else decode_score(row) for row in table]

    def choose(
        self,
        texts: Sequence[str],
        choices: Sequence[Sequence[str]],
        *,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        exact: bool = False,
        progress: Progress = _quiet,
    ) -> list[dict[str, Any]]:
        """For each text the number of the likeliest of its candidates, ``choice``, and ``probabilities`` of all.

        Texts may differ in how many candidates they have. Raises :class:`InputError` where there are none.
        """
        name, _ = self.answering("choice")
        if len(choices) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(choices)} lists of choices; expected as many of both")
        counts = np.array([len(some) for some in choices], np.int64)
        if len(counts) and not counts.all():
            raise InputError(f"text {int(counts.argmin())}: has no choices")
        owner = np.repeat(np.arange(len(texts)), counts).tolist()
        work = self.prepare([texts[i] for i in owner], [c for some in choices for c in some], max_length)
        # Candidates of one text need not share a batch.
        scores = np.zeros(len(work.rows), np.float32)
        for rows, _, pooled in self.run(work, "pooled", batch_tokens, lambda _: None, exact, owner):
            scores[rows] = candidate_scores(self.bundle, name, pooled)[:, 0]
        ends = np.cumsum(counts)[:-1]
        found = [softmax(row) for row in np.split(scores[work.unique], ends)] if len(texts) else []
        progress(len(texts))
        return [{"choice": int(row.argmax()), "probabilities": [float(p) for p in row]} for row in found]

    def _places(
        self, name: str, head: HeadSpec, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int | None,
        long: Long, batch_tokens: int | None, exact: bool, progress: Progress,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Answers that stand in the text."""
        if (head.kind == "span") != (pairs is not None):
            needed = "a question and a text (text_a, text_b)" if head.kind == "span" else "single texts"
            raise InputError(f"head {name!r} is of kind {head.kind}, which needs {needed}")
        work = self.prepare(texts, pairs, max_length, long)
        tokenizer = self.bundle.tokenizer
        answers: list[dict[str, Any]] = [{} for _ in work.first]
        windows: dict[int, list[tuple[Window, np.ndarray]]] = {}
        for rows, _, values in self.run(work, name, batch_tokens, progress, exact):
            for row, logits in zip(rows, values, strict=True):
                number = int(work.owner[row])
                i = work.first[number]
                logits = logits[: len(work.rows[row][0])]
                if row in work.windows:
                    windows.setdefault(number, []).append((work.windows[row], logits))
                    continue
                second = None if pairs is None else pairs[i]
                told = tokenizer.encode(texts[i], second, max_length=self.length)
                if second is None:
                    answers[number] = decode_tags(logits, told.spans, told.words, head, texts[i])
                else:
                    answers[number] = decode_span(logits, told.spans, told.segments, second, none_above=head.none_above)
        for number, parts in windows.items():
            i = work.first[number]
            if pairs is None:
                told = tokenizer.encode(texts[i])
                answers[number] = decode_tags(joined(parts), told.spans, told.words, head, texts[i])
            else:
                spans = [(piece.start, piece.end) for piece in tokenizer.pieces(pairs[i])]
                answers[number] = answer_of(parts, spans, pairs[i], head.none_above)
        return [answers[i] for i in work.unique]

    def fill(self, text: str, *, top: int = 5) -> list[list[dict[str, Any]]]:
        """The ``top`` most probable pieces for every [MASK] in the text.

        Raises :class:`InputError` when there is no [MASK], or the model has no masked-piece head.
        """
        if not isinstance(text, str):
            raise InputError(f"expected one text, found {type(text).__name__}")
        if all(head.kind != "mlm" for head in self.bundle.heads.values()):
            raise InputError(f"{self.bundle.name}: has no masked-piece head, so it cannot fill in pieces")
        tokenizer = self.bundle.tokenizer
        whole = tokenizer.encode(text, masks=True)
        encoding = tokenizer.encode(text, max_length=self.longest, masks=True)
        places = [i for i, piece in enumerate(encoding.ids) if piece == tokenizer.special_ids["mask"]]
        lost = whole.ids.count(tokenizer.special_ids["mask"]) - len(places)
        if lost:
            raise InputError(
                f"the text has {len(whole.ids):,} pieces, {lost} of its {tokenizer.special['mask']} beyond the {self.longest} "
                "that this model reads; give it less text"
            )
        if not places:
            raise InputError(
                f"the text holds no {tokenizer.special['mask']}; write it where a piece is to be filled in"
            )
        return self.filled(encoding.ids, encoding.segments, top)

    def filled(self, ids: Sequence[int], segments: Sequence[int], top: int) -> list[list[dict[str, Any]]]:
        """The ``top`` most probable pieces for every [MASK] among the pieces of a text, or of a pair."""
        tokenizer = self.bundle.tokenizer
        name = next(name for name, head in self.bundle.heads.items() if head.kind == "mlm")
        places = [i for i, piece in enumerate(ids) if piece == tokenizer.special_ids["mask"]]
        rows = Rows(*(np.array([row], np.int64) for row in (ids, [1] * len(ids), segments)))
        values = self.backend.forward(rows, [name], np.array(places, np.int64))[name]
        check_finite(values[None], np.array([self.first]), name)
        answers = []
        for probabilities in softmax(values[:, : tokenizer.vocab_size]):
            least = np.partition(probabilities, -top)[-top] if top < len(probabilities) else 0.0
            some = np.flatnonzero(probabilities >= least)  # of a large vocabulary only these are sorted
            best = some[np.argsort(-probabilities[some], kind="stable")][:top]
            answers.append(
                [{"piece": tokenizer.vocab[i], "id": int(i), "probability": float(probabilities[i])} for i in best]
            )
        return answers

    def hidden_states(self, text: str) -> np.ndarray:
        """All layers' states of one text (blocks + 1, S, H), special tokens included."""
        ids, segments = self.prepare([text]).rows[0]
        rows = Rows(np.array([ids], np.int64), np.ones((1, len(ids)), np.int64), np.array([segments], np.int64))
        return self.backend.forward(rows, ["hidden_states"])["hidden_states"][:, 0]
