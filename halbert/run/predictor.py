"""Predictor: texts in, typed answers out. It has a bundle and a backend; ``halbert.load`` lives here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from halbert.bundle import Bundle, Pooling
from halbert.data.batches import Rows
from halbert.data.features import Features, encode_examples
from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.heads import HeadSpec
from halbert.run.backend import Backend, Precision
from halbert.run.batching import BATCH_TOKENS, in_batches
from halbert.source import has_only_int8, resolve_bundle
from halbert.tasks.decoding import check_finite, decode_label, decode_score, softmax

BackendName = Literal["auto", "openvino", "torch"]
Progress = Callable[[int], None]


def _quiet(_: int) -> None:
    """No progress wanted."""


def load(
    model: str | Bundle,
    head: str | None = None,
    precision: Precision = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    backend: BackendName = "auto",
) -> Predictor:
    """A predictor for a model folder, a released name, a hub name or a bundle.

    Raises :class:`halbert.errors.InputError` when the model cannot be had or has no such head.
    """
    if not isinstance(model, Bundle):
        model = resolve_bundle(model, int8=precision == "int8" or (precision == "auto" and has_only_int8(model)))
    bundle = model
    if head is not None:
        bundle.head(head)
    return Predictor(bundle, open_backend(bundle, backend, precision, device, threads), head)


def open_backend(
    bundle: Bundle,
    backend: BackendName = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Backend:
    """The engine for a bundle: OpenVINO on CPUs, torch where a GPU is asked for or OpenVINO is not installed."""
    if backend == "auto":
        backend = "torch" if device == "cuda" or not importlib.util.find_spec("openvino") else "openvino"
    if backend == "torch":
        from halbert.run.torch_backend import TorchBackend

        return TorchBackend(bundle, precision, device, threads)
    if device == "cuda":
        raise InputError("the openvino backend runs on CPUs; for a GPU use --backend torch")
    from halbert.run.openvino_backend import OpenVINOBackend

    return OpenVINOBackend(bundle, precision, threads)


class Predictor:
    """Answers of one bundle through one backend. Texts are sorted by length and batched by tokens; order is kept."""

    def __init__(self, bundle: Bundle, backend: Backend, head: str | None = None) -> None:
        self.bundle = bundle
        self.backend = backend
        self.head = head
        self.cut = 0  # texts of the last call that were longer than max_length

    @property
    def longest(self) -> int:
        """Most pieces a sequence may have, special tokens included."""
        return self.bundle.spec.encoder.max_position_embeddings

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int | None) -> Features:
        """Texts or pairs as ids. Raises :class:`InputError` when ``max_length`` exceeds the model's positions."""
        length = self.longest if max_length is None else max_length
        if length > self.longest:
            raise InputError(f"max_length {length} exceeds this model's {self.longest} positions")
        examples = [Example(text=t, pair=None if pairs is None else pairs[i]) for i, t in enumerate(texts)]
        encoded = encode_examples(examples, self.bundle.tokenizer, length)
        self.cut = encoded.cut
        return encoded

    def _run(self, encoded: Features, output: str, batch_tokens: int, progress: Progress) -> Any:
        pad = self.bundle.tokenizer.special_ids["pad"]
        for rows, batch in in_batches(encoded.encoded, pad, batch_tokens, self.longest):
            values = self.backend.forward(batch, [output])[output]
            check_finite(values, rows, output)
            yield rows, batch, values
            progress(len(rows))

    def outputs(
        self, texts: Sequence[str], pairs: Sequence[str] | None, output: str, batch_tokens: int, progress: Progress
    ) -> Iterator[tuple[Rows, np.ndarray]]:
        """(batch, values) of one output as the engine gives it, longest texts first."""
        for _, batch, values in self._run(self.encode(texts, pairs, None), output, batch_tokens, progress):
            yield batch, values

    def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        progress: Progress = _quiet,
    ) -> np.ndarray:
        """One vector a text (N, H): the mean of all pieces ([CLS] and [SEP] too), the first state, or the pooler's.

        ``pooling`` and ``normalize`` default to what the model's folder says.
        """
        pooling = pooling or self.bundle.pooling
        normalize = self.bundle.normalize if normalize is None else normalize
        output = "pooled" if pooling == "pooler" else "last"
        vectors = np.zeros((len(texts), self.bundle.spec.encoder.hidden_size), np.float32)
        for rows, batch, values in self._run(self.encode(texts, None, max_length), output, batch_tokens, progress):
            if pooling == "mean":
                weights = batch.mask[:, :, None].astype(np.float32)
                vectors[rows] = (values * weights).sum(1) / weights.sum(1)
            else:
                vectors[rows] = values[:, 0] if pooling == "cls" else values
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        progress: Progress = _quiet,
    ) -> np.ndarray:
        """The chosen head's raw outputs (N, C), for heads that give one row a text."""
        name, head = self._answering("label", "score")
        table = np.zeros((len(texts), head.width), np.float32)
        for rows, _, values in self._run(self.encode(texts, pairs, max_length), name, batch_tokens, progress):
            table[rows] = values
        return table

    def _answering(self, *kinds: str) -> tuple[str, HeadSpec]:
        name, head = self.bundle.head(self.head)
        if head.kind not in kinds:
            raise InputError(f"head {name!r} is of kind {head.kind}; this needs one of kind {' or '.join(kinds)}")
        return name, head

    def predict(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        progress: Progress = _quiet,
    ) -> list[dict[str, Any]]:
        """One answer a text, in input order: ``label`` and ``probabilities``, or ``score``."""
        _, head = self._answering("label", "score")
        table = self.logits(texts, pairs, max_length=max_length, batch_tokens=batch_tokens, progress=progress)
        return [decode_label(row, head) if head.kind == "label" else decode_score(row) for row in table]

    def fill(self, text: str, *, top: int = 5) -> list[list[dict[str, Any]]]:
        """The ``top`` most probable pieces for every [MASK] in the text.

        Raises :class:`InputError` when there is no [MASK], or the model has no masked-piece head.
        """
        names = [name for name, head in self.bundle.heads.items() if head.kind == "mlm"]
        if not names:
            raise InputError(f"{self.bundle.name}: has no masked-piece head, so it cannot fill in pieces")
        tokenizer = self.bundle.tokenizer
        encoding = tokenizer.encode(text, max_length=self.longest, masks=True)
        places = [i for i, piece in enumerate(encoding.ids) if piece == tokenizer.special_ids["mask"]]
        if not places:
            raise InputError(
                f"the text holds no {tokenizer.special['mask']}; write it where a piece is to be filled in"
            )
        features = Features([(encoding.ids, encoding.segments)], [-1], 0)
        ((_, _, values),) = self._run(features, names[0], BATCH_TOKENS, _quiet)
        answers = []
        for probabilities in softmax(values[0][places][:, : tokenizer.vocab_size]):
            best = np.argsort(-probabilities, kind="stable")[:top]
            answers.append(
                [{"piece": tokenizer.vocab[i], "id": int(i), "probability": float(probabilities[i])} for i in best]
            )
        return answers

    def hidden_states(self, text: str) -> np.ndarray:
        """All layers' states of one text (blocks + 1, S, H), special tokens included."""
        features = self.encode([text], None, None)
        ids, segments = features.encoded[0]
        ones = np.ones((1, len(ids)), np.int64)
        rows = Rows(np.array([ids], np.int64), ones, np.array([segments], np.int64))
        return self.backend.forward(rows, ["hidden_states"])["hidden_states"][:, 0]
