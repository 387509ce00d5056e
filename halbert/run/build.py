"""``halbert quantize``: an int8 engine beside its model, with its certificate, or the reason why there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from halbert.bundle import Bundle, weight_hashes
from halbert.data.features import check_labels
from halbert.data.readers import Example, ending, read_examples
from halbert.errors import HalbertError, InputError
from halbert.files import check_target, read_json, whole_folder, write_json
from halbert.run.backend import Favoured
from halbert.run.batching import in_batches
from halbert.run.certificate import Answers, Certificate, answers_of, certify, references
from halbert.run.predictor import Predictor, open_backend
from halbert.run.quantize import activation_by_token, quantize_without_text
from halbert.run.quantize import quantize as fixed_ranges
from halbert.source import resolve_bundle
from halbert.weights.int8 import CERTIFICATE, ENGINE, Int8, save_int8

CALIBRATION, CHECK = 512, 1000  # texts at most
LEAST = 16
CALIBRATED = Favoured(tokens=512)  # batches in which ranges are measured
COSINE = 0.998  # what is aimed at: below it a more exact and slower way is tried, too
Step = Callable[..., None]


def _nothing(detail: str = "", advance: int = 1, total: int | None = None) -> None:
    """No progress wanted."""


def quantize(
    model: str | os.PathLike[str] | Bundle,
    out: str | os.PathLike[str],
    calibrate: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    only: bool = False,
    force: bool = False,
    overwrite: bool = False,
    progress: Step = _nothing,
) -> Certificate:
    """Write the bundle ``out``: the model, its int8 engine, and the certificate of what that engine keeps.

    ``calibrate`` are texts like those of the task, a few hundred: three quarters set the ranges, the rest is checked.
    ``data`` are labelled rows to check on instead (label, or score with text_a and text_b); ``columns`` says what the
    files call these. Ranges fixed by the texts are
    tried first; where they fall below the gate or a mean cosine of 0.998, ranges taken token by token. ``only`` leaves the
    full weights out.
    Raises :class:`InputError` for unfit data, :class:`HalbertError` below the gate, unless ``force``.
    """
    check_target(out, overwrite)
    bundle = model if isinstance(model, Bundle) else resolve_bundle(model)
    texts, check, metric = _examples(bundle, Path(calibrate), data, columns)
    predictor = Predictor(bundle, open_backend(bundle, "openvino", "fp32"))
    pairs = [e.pair or "" for e in texts] if texts[0].pair is not None else None
    work = predictor.prepare([e.text for e in texts], pairs)
    pad = bundle.tokenizer.special_ids["pad"]
    rows = (batch for _, batch in in_batches(work.rows, pad, CALIBRATED, predictor.longest))
    full = [
        answers_of(bundle, backend, check, lambda n: progress("answers in full precision", n))
        for backend in references(bundle)
    ]
    told: dict[str, Any] = {
        "calibrated_on": f"{len(texts)} texts of {Path(calibrate).name}",
        "checked_on": f"{len(check)} texts of {Path(data or calibrate).name}", "metric": metric,
    }  # fmt: skip
    tried: list[tuple[Int8, Certificate]] = []
    fixed = fixed_ranges(bundle, rows, lambda n: progress("ranges", n))
    ways = {
        "fixed": lambda: fixed,
        "fixed, after the activation by token": lambda: activation_by_token(fixed),
        "by token": lambda: quantize_without_text(bundle),
    }
    for ranges, way in ways.items():
        found = way()
        tried.append((found, certify(full, _int8(bundle, found, check, progress), ranges=ranges, **told)))
        if tried[-1][1].gate.passed and tried[-1][1].engines[-1].cosine_mean >= COSINE:
            break
    found, certificate = max(tried, key=lambda t: (t[1].gate.passed, min(t[1].engines[-1].cosine_mean, COSINE)))
    if not certificate.gate.passed:
        gates = "; ".join(f"{c.ranges} ranges {c.gate.found:.4f}" for _, c in tried)
        if not force:
            raise HalbertError(
                f"{bundle.name}: int8 falls below the gate, {certificate.gate.rule}: at least {certificate.gate.least:.4f}, "
                f"found {gates}; nothing was written (--force writes it all the same)"
            )
        certificate = msgspec.structs.replace(certificate, forced=True)
    _write(bundle, found, certificate, out, only, overwrite)
    return certificate


def _examples(
    bundle: Bundle, calibrate: Path, data: str | os.PathLike[str] | None, columns: Mapping[str, str] | None
) -> tuple[list[Example], list[Example], str | None]:
    """(texts for the ranges, texts for the check, the metric of the latter)."""
    texts = read_examples(calibrate, labelled=False, columns=None if ending(calibrate) == ".txt" else columns)
    if len(texts) < LEAST:
        raise InputError(f"{calibrate}: holds {len(texts)} texts; at least {LEAST} are needed, a few hundred are good")
    if data is None:
        stride = max(len(texts) // (CALIBRATION + CALIBRATION // 3), 1)
        texts = texts[::stride]
        held = texts[3::4][:CHECK]
        return [t for i, t in enumerate(texts) if i % 4 != 3][:CALIBRATION], held, None
    head = next((h for h in bundle.heads.values() if h.kind not in ("mlm", "pair")), None)
    if head is not None and head.kind not in ("label", "score"):
        raise InputError(f"{data}: models with a {head.kind} head are checked on the calibration texts alone")
    if head is not None and head.several:
        raise InputError(f"{data}: models that give several classes are checked on the calibration texts alone")
    check = read_examples(
        data, columns=columns, column="label" if head is not None and head.kind == "label" else "score"
    )
    if head is None and check[0].pair is None:
        raise InputError(f"{data}: vectors are scored by pairs; expected the columns text_a, text_b and score")
    if head is not None and head.kind == "label":
        check_labels(check, head.labels, str(data))
    if len(check) < LEAST:
        raise InputError(f"{data}: holds {len(check)} rows; at least {LEAST} are needed to check an engine by")
    metric = "accuracy" if head is not None and head.kind == "label" else "spearman"
    return texts[:: max(len(texts) // CALIBRATION, 1)][:CALIBRATION], check, metric


def _int8(bundle: Bundle, found: Int8, check: Sequence[Example], progress: Step) -> Answers:
    small = bundle.replace(arrays=found.plain, int8=found, folder=None)  # no kept graph is that of this engine
    backend = open_backend(small, "openvino", "int8")
    return answers_of(small, backend, check, lambda n: progress("answers in int8", n))


def _write(
    bundle: Bundle, found: Int8, certificate: Certificate, out: str | os.PathLike[str], only: bool, overwrite: bool
) -> None:
    with whole_folder(out, overwrite) as folder:
        bundle.save(folder, overwrite=True)
        save_int8(folder / ENGINE, found)
        write_json(folder / CERTIFICATE, msgspec.to_builtins(certificate))
        if only:
            for file in [*folder.glob("*.safetensors"), *folder.glob("heads/*/model.safetensors")]:
                file.unlink()
        provenance = read_json(folder / "provenance.json")
        provenance["files"] = weight_hashes(folder)
        write_json(folder / "provenance.json", provenance)
