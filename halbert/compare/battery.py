"""The probes of a plan, ready to run."""

from __future__ import annotations

from pathlib import Path

from halbert.compare.plan import Plan
from halbert.compare.probes.agreement import AgreementProbe
from halbert.compare.probes.engines import EnginesProbe
from halbert.compare.probes.finetuning import FinetuningProbe
from halbert.compare.probes.inside import InsideProbe
from halbert.compare.probes.languages import LanguagesProbe
from halbert.compare.probes.latency import LatencyProbe
from halbert.compare.probes.layers import LayersProbe
from halbert.compare.probes.learning import LearningProbe
from halbert.compare.probes.masked import MaskedProbe
from halbert.compare.probes.masked_languages import MaskedLanguagesProbe
from halbert.compare.probes.memory import MemoryProbe
from halbert.compare.probes.pace import PaceProbe
from halbert.compare.probes.retrieval import RetrievalProbe
from halbert.compare.probes.size import SizeProbe
from halbert.compare.probes.throughput import ThroughputProbe
from halbert.compare.probes.unknown import UnknownProbe
from halbert.compare.schedule import Probe
from halbert.data.corpus import build_corpus
from halbert.run.openvino_backend import multiplies_bf16
from halbert.run.predictor import BackendName, Predictor, load

_RUN_A_MODEL = {"memory", "latency", "throughput", "agreement", "inside", "retrieval", "layers", "engines"}
_LARGE = 5e9  # FLOPs for 128 pieces, from which a pass over all texts takes longer than seconds


def build_probes(plan: Plan, folder: Path) -> list[Probe]:
    """The probes of a plan, in the order they run; what they need on disk goes into ``folder``."""
    asked, depth = set(plan.probes), plan.depth
    probes: list[Probe] = []
    predictors: dict[str, Predictor] = {}
    # One that only PyTorch can run is compared with what the others do in PyTorch.
    engine: BackendName = "torch" if any(s.foreign for s in plan.subjects) else "auto"
    if _RUN_A_MODEL & asked:
        predictors = {
            s.name: load(s.bundle, precision=plan.precision, threads=plan.threads, backend=engine)
            for s in plan.subjects
        }
        for predictor in predictors.values():  # compiled before it is described
            predictor.embed(plan.texts[:2])
    if "size" in asked:
        probes.append(SizeProbe())
    if "memory" in asked:
        probes.append(MemoryProbe(_precisions(predictors, engine), depth.memory, engine, plan.threads))
    if "latency" in asked:
        probes.append(LatencyProbe(predictors, depth.latency, longest=_positions(plan)))
    if "engines" in asked:
        probes.append(EnginesProbe(_precisions(predictors, "auto"), depth.engines, plan.threads))
    if "throughput" in asked:
        work = max(s.bundle.spec.encoder.count_flops(128) for s in plan.subjects)
        texts = plan.texts if work < _LARGE else plan.texts[:96]
        probes.append(ThroughputProbe(predictors, texts, plan.texts_from, depth.throughput))
    if "languages" in asked:
        probes.append(LanguagesProbe())
    if "unknown" in asked:
        probes.append(UnknownProbe(plan.texts, plan.texts_from))
    if "agreement" in asked:
        probes.append(AgreementProbe(predictors, plan.texts, plan.texts_from, plan.threads))
    if "inside" in asked:
        probes.append(InsideProbe(predictors, plan.texts, plan.texts_from))
    if "masked" in asked:
        probes.append(_masked(plan, folder))
    if "masked-languages" in asked and plan.parallel:
        probes.append(MaskedLanguagesProbe(plan.parallel, plan.parallel_from, min(128, _positions(plan))))
    if "retrieval" in asked and plan.parallel:
        probes.append(RetrievalProbe(predictors, plan.parallel, plan.parallel_from))
    for task in (t.at_most(depth.rows) for t in plan.tasks):
        if "layers" in asked:
            probes.append(LayersProbe(task.name, task.train, task.test, task.where, predictors))
        if "finetuning" in asked:
            probes.append(
                FinetuningProbe(
                    task.name, task.train, task.test, task.where, plan.recipe,
                    seeds=depth.seeds, precision=plan.precision, noises=True, abroad=task.abroad, backend=engine, threads=plan.threads,
                )
            )  # fmt: skip
        if "learning" in asked and depth.curves:
            probes.append(
                LearningProbe(
                    task.name, task.train, task.test, task.where, plan.recipe,
                    seeds=depth.curves, precision=plan.precision, backend=engine, threads=plan.threads,
                )
            )  # fmt: skip
        if "pace" in asked and depth.curves:
            probes.append(
                PaceProbe(
                    task.name, task.train, task.test, task.where, plan.recipe, seeds=depth.curves, threads=plan.threads
                )
            )
    return probes


def _precisions(predictors: dict[str, Predictor], engine: BackendName) -> list[str]:
    """The audit's own precision, and what else this processor multiplies in OpenVINO."""
    own = str(next(iter(predictors.values())).backend.describe()["precision"])
    if engine == "torch":
        return [own]
    return [own, *(p for p in ("fp32", "bf16") if p != own and (p == "fp32" or multiplies_bf16()))]


def _masked(plan: Plan, folder: Path) -> MaskedProbe:
    corpora = {}
    for s in plan.subjects:
        tokenizer = s.bundle.tokenizer
        if s.has_head("mlm") and tokenizer.fingerprint not in corpora:
            place = folder / "data" / f"held-out-{tokenizer.fingerprint[:8]}"
            documents = ([text] for text in plan.texts)
            corpora[tokenizer.fingerprint] = build_corpus(documents, tokenizer, place, note=plan.texts_from)
    return MaskedProbe(corpora, f"{len(plan.texts)} texts of {plan.texts_from}", min(128, _positions(plan)))


def _positions(plan: Plan) -> int:
    return min(s.bundle.spec.encoder.max_position_embeddings for s in plan.subjects)
