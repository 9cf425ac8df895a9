"""What the endpoints take and give back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_BEAMS = 16
Model = Annotated[
    str | None, Field(description="Name of a bundle; may be left out where only one can do this.")
]
Texts = str | list[str]
TextsOrPairs = str | list[str | tuple[str, str]]
Truncated = Annotated[list[bool], Field(description="Of each input, whether it was too long and was cut.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


def _lenient(**fields: Any) -> ConfigDict:
    """For protocols of others, whose clients may send more than is of use here."""
    return ConfigDict(extra="ignore", json_schema_extra={"examples": [fields]})


class EmbeddingsRequest(BaseModel):
    """Texts to embed, as OpenAI's API has it."""

    model_config = _lenient(model="similarity", input=["A dog runs.", "A cat sleeps."])

    input: str | list[str] | list[int] | list[list[int]]
    model: Model = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)


class EmbeddingEntry(BaseModel):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    truncated: bool


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """A vector for each text, in order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingEntry]
    model: str
    usage: Usage


class EncodeRequest(BaseModel):
    """Texts to encode, as bert-as-service has it; ` ||| ` parts the two texts of a pair."""

    model_config = _lenient(id=123, texts=["hello world", "good day"], is_tokenized=False)

    id: int | str | None = None
    texts: list[str] | list[list[str]] = Field(min_length=1)
    is_tokenized: bool = False
    model: Model = None
    pooling: Literal["mean", "max", "mean-max", "cls", "none"] | None = None


class EncodeResponse(BaseModel):
    """The vectors, under both names that clients look for."""

    id: int | str | None
    status: int
    result: list[Any]
    results: list[Any]
    truncated: Truncated


class ClassifyRequest(BaseModel):
    """Texts, pairs of texts, or images as base64."""

    model_config = _example(model="topic", inputs=["Shares fell sharply on Monday."], top_k=3)

    inputs: TextsOrPairs
    model: Model = None
    top_k: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)


class TranslateRequest(BaseModel):
    """Texts to translate; with `stream` the answer is a stream of events."""

    model_config = _example(model="translate-en-de", inputs=["A dog runs."], num_beams=5)

    inputs: Texts
    model: Model = None
    target_language: str | None = None
    num_beams: int = Field(default=1, ge=1, le=MAX_BEAMS)
    num_return: int | None = Field(default=None, ge=1, le=MAX_BEAMS)
    max_new_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False


class GenerateRequest(BaseModel):
    """Texts to go on with; with `stream` the answer is a stream of events."""

    model_config = _example(model="shakespeare", inputs="KING:", max_new_tokens=40)

    inputs: Texts
    model: Model = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0)
    num_beams: int = Field(default=1, ge=1, le=MAX_BEAMS)
    num_return: int | None = Field(default=None, ge=1, le=MAX_BEAMS)
    stream: bool = False


class SimilarityRequest(BaseModel):
    """Pairs of texts to compare."""

    model_config = _example(model="similarity", pairs=[["A dog runs.", "A puppy is running."]])

    pairs: list[tuple[str, str]] = Field(min_length=1)
    model: Model = None


class SimilarityResponse(_Strict):
    """The cosine of each pair's vectors, from -1 to 1."""

    model: str
    scores: list[float]
    truncated: Truncated


class TokenizeRequest(BaseModel):
    """Texts or pairs of texts."""

    model_config = _example(model="topic", inputs=["Shares fell sharply."])

    inputs: TextsOrPairs
    model: Model = None


class TokenizeResponse(_Strict):
    """The tokens of each text as the model reads them, special ones included."""

    model: str
    tokens: list[list[str]]
    ids: list[list[int]]
    max_length: int
    truncated: Truncated


class PredictRequest(BaseModel):
    """Texts, pairs of texts, or base64 image files."""

    model_config = _example(inputs=["Shares fell sharply on Monday."])

    inputs: list[str | tuple[str, str]] = Field(min_length=1)
    top_k: int | None = Field(default=None, ge=1)


class Results(_Strict):
    """A result for each input, in order, as the bundle's own call gives it."""

    model: str
    task: str
    results: list[Any]
    truncated: Truncated


class ModelEntry(_Strict):
    """One model that the service answers for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "kzoo"
    task: str


class ModelList(_Strict):
    """All models that the service answers for."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Health(_Strict):
    """Whether the service runs, and how many bundles it could and could not open."""

    status: Literal["ok"] = "ok"
    models: int
    failed: list[str]


class Readiness(_Strict):
    """Whether each bundle gave what its export recorded, and whether the pages are there, if there are any."""

    status: Literal["ready", "starting", "failed", "stopping"]
    models: dict[str, str]
    pages: bool | None


class Problem(_Strict):
    """What was wrong, and how to mend it."""

    error: str
