"""Parameters, arithmetic and bytes on disk: exact."""

from __future__ import annotations

from halbert.compare.measurement import Quantity
from halbert.compare.schedule import Sample
from halbert.compare.subject import Subject

LENGTH = 128


class SizeProbe:
    """Counts what can be counted."""

    name = "size"
    title = "Size"
    rounds = 1

    def __init__(self) -> None:
        self.quantities = [
            Quantity(name="parameters", title="Encoder parameters", unit="parameters", statistic="exact", better="lower",
                     how="counted from the specification (embeddings, layers, pooler), equal to the arrays in the file"),
            Quantity(name="flops_128", title="Work for 128 pieces", unit="FLOP", statistic="exact", better="lower",
                     how="2 per multiply-add of the matrix products of one forward pass over 128 pieces"),
            Quantity(name="bytes_on_disk", title="Weights on disk", unit="bytes", statistic="exact", better="lower",
                     how="sum of the sizes of the model's safetensors files, heads included"),
        ]  # fmt: skip

    def refuse(self, subject: Subject) -> str | None:
        """Every model has a size."""
        return None

    def prepare(self, subject: Subject) -> None:
        """Nothing to prepare."""

    def sample(self, subject: Subject, prepared: None, round_number: int) -> Sample:
        """The three counts."""
        encoder = subject.bundle.spec.encoder
        held = sum(array.size for name, array in subject.bundle.arrays.items() if name.startswith("encoder."))
        assert held == encoder.count_encoder(), "the arrays and the specification disagree"
        files = [*subject.folder.glob("*.safetensors"), *subject.folder.glob("heads/*/*.safetensors")]
        return {
            "parameters": encoder.count_encoder(),
            "flops_128": encoder.count_flops(LENGTH),
            "bytes_on_disk": sum(file.stat().st_size for file in files),
        }
