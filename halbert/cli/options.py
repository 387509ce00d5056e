"""The options that mean the same in every verb."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from halbert.errors import InputError

if TYPE_CHECKING:
    from halbert.cluster import Cluster

MODEL_HELP = (
    "A model folder, an archive of one, a TensorFlow checkpoint, a released name such as bert-base-uncased, or a hub name "
    "org/name[@revision]."
)


class PrecisionChoice(enum.StrEnum):
    """Number formats an engine can compute in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


class DeviceChoice(enum.StrEnum):
    """Where an engine runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class BackendChoice(enum.StrEnum):
    """Which engine runs."""

    auto = "auto"
    openvino = "openvino"
    torch = "torch"


class LongChoice(enum.StrEnum):
    """What becomes of a text that is longer than the model."""

    truncate = "truncate"
    window = "window"


Long = Annotated[
    LongChoice, typer.Option(help="Texts beyond --max-length: cut there, or read in windows that overlap by a quarter.")
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the result for programs, as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(
        help=(
            "Number format; auto is bf16 where the processor is faster in it, fp16 is for GPUs, int8 for models that halbert quantize "
            "wrote."
        )
    ),
]
Device = Annotated[DeviceChoice, typer.Option(help="Where to run.")]
Backend = Annotated[BackendChoice, typer.Option(help="Which engine; auto is openvino on CPUs, torch on GPUs.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="With torch: compile the model first, for many texts on a GPU.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads the engine may use.")]


class EngineChoice(enum.StrEnum):
    """Who does the work."""

    here = "here"
    ray = "ray"


Engine = Annotated[
    EngineChoice, typer.Option(help="ray: spread the work over a Ray cluster (extra: cluster; docs/scale.md).")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The cluster's address, or auto; without it $RAY_ADDRESS, or all cores of this machine.",
    ),
]


def cluster_of(engine: EngineChoice, address: str | None, file: str | None = None) -> Callable[[], Cluster] | None:
    """What connects to the cluster that was asked for, or None. Raises :class:`InputError` for what does not fit."""
    if engine is EngineChoice.here:
        if address is not None:
            raise InputError("--address is of a Ray cluster; add --engine ray")
        return None
    if file == "-":
        raise InputError(
            "--engine ray reads its input again where a worker is lost, and standard input cannot be read twice"
        )
    from halbert.cluster import Cluster

    return functools.partial(Cluster, address)


Head = Annotated[str | None, typer.Option(help="Which head answers, where a model has several.")]
MaxLength = Annotated[int | None, typer.Option(min=3, help="Most pieces of a text, special tokens included.")]
BatchTokens = Annotated[
    int | None,
    typer.Option(min=8, help="Most pieces in a batch, on a GPU padding included. [default: 1024, on a GPU 8192]"),
]
Exact = Annotated[bool, typer.Option("--exact", help="Every text by itself: the same bits in whatever company.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file, and what another command has begun of it.")
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="FILE",
        help=".txt (a text a line), .csv, .tsv, .jsonl, .parquet, here or at an address (s3://…); - is standard input.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; repeatable.")
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME",
        help="What the files call a column: text=sentence, label=4 (without header: by number); repeatable.",
    ),
]  # fmt: skip


Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="text=NAME", help="The field of .jsonl, or the column of .parquet, that holds the texts."
    ),
]


def text_column(given: list[str] | None) -> str:
    """The name in ``text=NAME``. Raises :class:`InputError` for other roles."""
    names = column_names(given)
    if others := sorted(names.keys() - {"text"}):
        raise InputError(f"--column {others[0]}=…: only texts are read here; expected text=NAME")
    return names.get("text", "text")


def column_names(given: list[str] | None) -> dict[str, str]:
    """``ROLE=NAME`` as a table. Raises :class:`InputError` for anything else."""
    from halbert.errors import InputError, nearest

    roles = ("text", "text_a", "text_b", "text_c", "label", "labels", "score", "choices", "prefix", "id", "language")
    found = {}
    for one in given or ():
        role, equals, name = one.partition("=")
        if not equals or not name or role not in roles:
            raise InputError(
                f"--column {one!r}{nearest(role, roles)}: expected ROLE=NAME, with one of the roles {', '.join(roles)}"
            )
        found[role] = name
    return found
