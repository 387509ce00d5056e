"""What clients send. Answers are plain JSON: OpenAI's and text-embeddings-inference's forms where a route is theirs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_TEXTS = 2_048  # of one request, as OpenAI's
LONGEST = 200_000  # characters of one text
Text = Annotated[str, Field(max_length=LONGEST)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


class Body(BaseModel):
    """A request's body. Unknown fields are refused, so that a misspelt option is not silently without effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, max_length=200, description="a served model's name; the first one unless given")


class Embeddings(Body):
    """OpenAI's ``/v1/embeddings``."""

    input: Text | Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="the model's own width, if given")
    user: str | None = None


class Embed(Body):
    """text-embeddings-inference's ``/embed``."""

    inputs: Text | Texts
    normalize: bool = True
    truncate: bool = False
    truncation_direction: Literal["right", "Right"] = "right"
    prompt_name: None = None
    pooling: Literal["mean", "cls", "pooler"] | None = None


class Predict(Body):
    """text-embeddings-inference's ``/predict``: a text, a pair in a list, or several of such lists in a list."""

    inputs: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=2)]
        | Annotated[
            list[Text | Annotated[list[Text], Field(min_length=1, max_length=2)]],
            Field(min_length=1, max_length=MOST_TEXTS),
        ]
    )
    truncate: bool = False
    raw_scores: Literal[False] = False


class Rerank(Body):
    """text-embeddings-inference's ``/rerank``."""

    query: Text
    texts: Texts
    truncate: bool = False
    return_text: bool = False


class Tokenize(Body):
    """text-embeddings-inference's ``/tokenize``."""

    inputs: Text | Texts
    add_special_tokens: bool = True


class Fill(Body):
    """Texts with [MASK] in them."""

    inputs: Text | Texts
    top: int = Field(5, ge=1, le=100)


class Classify(Body):
    """Texts, or pairs of such, for a head with labels or a score."""

    inputs: Text | Texts
    pairs: Text | Texts | None = None
    truncate: bool = False


class Tag(Body):
    """Texts for a head that finds entities."""

    inputs: Text | Texts
    truncate: bool = False


class Answer(Body):
    """A question and the text that holds its answer."""

    question: Text
    context: Text


class Compare(BaseModel):
    """One text, or two, for all models."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    pair: Text = ""
    models: list[str] | None = Field(None, min_length=1, max_length=20)
    layer: int = Field(-1, ge=-1, le=200)
    precision: Literal["fp32", "bf16", "int8"] | None = Field(
        None, description="as the server was started, if not given"
    )


class Swap(BaseModel):
    """A model to be taken into service."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str = Field(min_length=1, max_length=1000)
