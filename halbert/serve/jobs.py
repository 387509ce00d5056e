"""What the serving process asks of the computing one, and what that answers: msgpack frames with their length in front."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Literal

import msgspec

Operation = Literal["embed", "predict", "fill", "tokenize", "compare"]
LARGEST = 1 << 30  # bytes of a frame; what says more is none
HEAD = struct.Struct("<I")


class Job(msgspec.Struct, kw_only=True):
    """Some texts of one request, of which ``first`` is the first one's number there. ``options`` are those of the predictor's
    method; jobs with equal ones are run together. ``edition``: which of the models that had this name one after the other,
    the same for all jobs of a request."""

    number: int
    model: str
    edition: int = 0
    operation: Operation
    texts: list[str]
    pairs: list[str] | None = None
    first: int = 0
    options: dict[str, Any] = {}


class Gulp(msgspec.Struct, kw_only=True, tag="gulp"):
    """Jobs that are computed together."""

    jobs: list[Job]


class Load(msgspec.Struct, kw_only=True, tag="load"):
    """Take this model into service under a name, in place of the one that had it; its edition is ``number``."""

    number: int
    name: str
    model: str


class Forget(msgspec.Struct, kw_only=True, tag="forget"):
    """An edition of a model that no request is left for."""

    model: str
    edition: int


class Answer(msgspec.Struct, kw_only=True, tag="answer"):
    """A job's results, one a text; or why there are none, with the HTTP status that says so.

    ``vectors`` are rows of float32 (N, width), ``rows`` anything else. ``tokens`` are the job's own; ``seconds`` by stage are
    those of all jobs that were computed together with job ``group``, the first of them, which also tells their ``batches``:
    rows of each, how many ``places`` they had together, and how many of these only filled them up.
    """

    number: int
    rows: list[Any] | None = None
    vectors: bytes | None = None
    width: int = 0
    tokens: int = 0
    batches: list[int] = []
    places: int = 0
    padding: int = 0
    seconds: dict[str, float] = {}
    group: int = -1
    error: str = ""
    status: int = 200


class Later(msgspec.Struct, kw_only=True, tag="later"):
    """Jobs that are computed after others: what they need has to be loaded first, beside the work."""

    numbers: list[int]


class Told(msgspec.Struct, kw_only=True, tag="told"):
    """What a worker says unasked: its models as they are described, once it is ready or has taken in another."""

    models: list[dict[str, Any]]
    number: int = -1
    error: str = ""


def frame(message: Gulp | Load | Forget | Answer | Later | Told) -> bytes:
    """A message as it goes over the pipe."""
    body = msgspec.msgpack.encode(message)
    return HEAD.pack(len(body)) + body


def read(stream: BinaryIO) -> bytes | None:
    """The next frame's body, or ``None`` at the end."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    (size,) = HEAD.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None
