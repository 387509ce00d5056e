"""What clients send. Answers are plain JSON: OpenAI's and text-embeddings-inference's forms where a route is theirs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

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

    @field_validator("input", mode="before")
    @classmethod
    def _no_ids(cls, given: object) -> object:
        if isinstance(given, list) and given and all(isinstance(each, int | list) for each in given):
            raise PydanticCustomError(
                "token_ids",
                "token ids are another tokenizer's; send texts (LangChain: check_embedding_ctx_length=False)",
            )
        return given


class Tei(Body):
    """What text-embeddings-inference's routes have in common: ``null`` is what is usual."""

    truncate: bool | None = False
    truncation_direction: Literal["right", "Right"] | None = Field("right", description="texts are cut at their end")


class Embed(Tei):
    """text-embeddings-inference's ``/embed``."""

    inputs: Text | Texts
    normalize: bool | None = True
    prompt_name: None = None
    dimensions: int | None = Field(None, description="the model's own width, if given")
    pooling: Literal["mean", "cls", "pooler"] | None = None


class Predict(Tei):
    """text-embeddings-inference's ``/predict``: a text, a pair in a list, or several of such lists in a list."""

    inputs: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=2)]
        | Annotated[
            list[Text | Annotated[list[Text], Field(min_length=1, max_length=2)]],
            Field(min_length=1, max_length=MOST_TEXTS),
        ]
    )
    raw_scores: bool = Field(False, description="logits instead of probabilities")


class Rerank(Tei):
    """text-embeddings-inference's ``/rerank``."""

    query: Text
    texts: Texts
    raw_scores: bool = Field(False, description="without effect: a score is what the head was taught, in its own unit")
    return_text: bool = False


class Tokenize(Body):
    """text-embeddings-inference's ``/tokenize``."""

    inputs: Text | Texts
    add_special_tokens: bool = True
    prompt_name: None = None


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
