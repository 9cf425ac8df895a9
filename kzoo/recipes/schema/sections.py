"""The sections of a recipe, but for its data: what each field means, and what it may be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kzoo.data import Augmentation, TextAugmentation
from kzoo.errors import did_you_mean
from kzoo.recipes.schema.data_kinds import Column, Columns, Section, Share

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Betas = Annotated[list[Share], Field(min_length=2, max_length=2)]
DTYPES = ("float32", "float16", "int8", "int8_static", "int4")


class TextSection(Section):
    """How texts are read."""

    vocab_size: int = Field(default=8000, gt=0)
    """Most tokens of the tokenizer that is trained on the training texts; with `model.pretrained` how many of the
    checkpoint's tokens stay, those that these texts use most: all unless given."""

    units: Literal["subwords", "characters"] = "subwords"
    """What the tokens are of a tokenizer that is trained on plain text."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """How often a merge of the BPE is left out in training, for pairs of texts with `training.batch_tokens`."""

    augment: TextAugmentation = TextAugmentation()
    """How texts are varied in training, anew in each epoch; bundles are found as data is."""


class MaskingSection(Section):
    """Which tokens of plain text a masked language model is to guess."""

    share: float = Field(default=0.15, gt=0, lt=1)
    """How many; of these eight tenths are hidden, one tenth become another token, and the rest stay."""

    whole_words: bool = False
    """Whether all tokens of a word are hidden, or none; words are those that the tokenizer splits texts into."""


class VisionSection(Section):
    """How images are varied in training."""

    augment: Augmentation = Augmentation()


class ModelSection(BaseModel):
    """The model: a registered name or a checkpoint to go on from, and any knob that `create_model` takes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = None
    """A registered model, to be trained from scratch."""

    pretrained: str | None = None
    """What the model begins with; its tokenizer comes with it and its head is new. A checkpoint: a folder, found as
    data is; `package:MODULE`, the folder in an installed Python package; or a name on the Hugging Face hub. Or a
    model of the zoo: a `.keras` file, found as data is; or a recipe beside this one, which is trained first, unless
    it was before."""

    tokenizer: str | None = None
    """A tokenizer.json, found as data is; one is trained if there is none."""

    @model_validator(mode="after")
    def _check_source(self) -> ModelSection:
        if (self.name is None) == (self.pretrained is None):
            raise ValueError("say either name or pretrained")
        if self.pretrained is not None and self.tokenizer is not None:
            raise ValueError("a tokenizer comes with pretrained: leave tokenizer out")
        return self

    @property
    def title(self) -> str:
        """The name, or the checkpoint's."""
        return self.name or self.pretrained or ""

    @property
    def knobs(self) -> dict[str, Any]:
        """What goes to `create_model` beside the name."""
        return dict(self.model_extra or {})


class TrainingSection(Section):
    """How long and how fast the model learns: for `epochs`, or for `max_steps` updates."""

    epochs: int | None = Field(default=None, gt=0)
    """Passes over the training data, a checkpoint after each."""

    batch_size: int = Field(default=32, gt=0)
    """Examples a batch; with `batch_tokens` only where the bundle is measured."""

    max_steps: int | None = Field(default=None, gt=0)
    """Updates of the weights, for pairs of texts and plain text; needs `batch_tokens` and `checkpoint_every`."""

    batch_tokens: int | None = Field(default=None, gt=0)
    """Most tokens of a batch, padding included; of pairs on either side."""

    checkpoint_every: int | None = Field(default=None, gt=0)
    """Updates from one checkpoint, and one look at the validation data, to the next."""

    learning_rate: float | None = Field(default=None, gt=0)
    """The peak; what suits the model's width unless given."""

    schedule: Literal["cosine", "inverse_sqrt"] = "cosine"
    """How the learning rate falls after the warm-up: to 0 at the end, or with the square root of the updates."""

    warmup_steps: int | None = Field(default=None, gt=0)
    """Updates until the peak; a tenth of all, 1,000 at most, unless given."""

    betas: Betas = [0.9, 0.999]
    """Adam's two."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's, on all but biases and norms; 0 makes it Adam."""

    clip_norm: float = Field(default=1.0, gt=0)
    """What the gradients' global norm is cut to."""

    accumulate: int = Field(default=1, gt=0)
    """Batches whose mean gradient makes one update."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over the vocabulary, or over the classes where an example has one."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """What the model computes in; weights are float32."""

    average: int = Field(default=1, gt=0)
    """How many of the last checkpoints are averaged; 1 takes the best one on the validation data."""

    patience: int | None = Field(default=None, gt=0)
    """Stop after so many checkpoints without a better leading score on the validation data."""

    seed: int = Field(default=0, ge=0)

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)] | None = None
    """In place of `seed`: train once with each, and export the model that is best on the validation data."""

    folds: Annotated[int, Field(ge=2)] | None = None
    """Where there is nothing to test on: measure so many trainings, each on its own share of the training data, which
    it has not seen; then train on all."""

    freeze: Literal["embeddings", "backbone"] | Positive | None = None
    """What stays as it is: the embeddings, these and so many of the lowest layers, or all but the head."""

    unfreeze_every: Positive | None = None
    """Epochs from one layer to the next below that begins to train; the head trains from the start."""

    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate from one layer to the next below; the head's is the full rate."""

    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """How much an example of a class counts, by its name, 1 unless given; `"balanced"`: all classes the same."""

    @model_validator(mode="after")
    def _check_length(self) -> TrainingSection:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("say either epochs or max_steps")
        by_steps = {name: getattr(self, name) for name in ("max_steps", "batch_tokens", "checkpoint_every")}
        given = [name for name, value in by_steps.items() if value is not None]
        if given and len(given) < len(by_steps):
            missing = " and ".join(name for name in by_steps if name not in given)
            raise ValueError(f"{given[0]} needs {missing} too")
        every = self.checkpoint_every
        if self.max_steps is not None and every is not None and self.max_steps % every:
            raise ValueError(f"max_steps={self.max_steps} is not a multiple of checkpoint_every={every}")
        return self

    @model_validator(mode="after")
    def _check_repetitions(self) -> TrainingSection:
        if self.seeds is not None and (
            "seed" in self.model_fields_set or len({*self.seeds}) < len(self.seeds)
        ):
            raise ValueError("seeds are different numbers, in place of seed")
        if self.seeds is not None and self.folds is not None:
            raise ValueError("seeds and folds exclude each other")
        return self

    @model_validator(mode="after")
    def _check_fine_tuning(self) -> TrainingSection:
        if self.freeze == "backbone" and (self.unfreeze_every is not None or self.layer_decay != 1.0):
            raise ValueError("freeze = 'backbone' leaves no layer for unfreeze_every or layer_decay")
        if self.unfreeze_every is not None and self.epochs is None:
            raise ValueError("unfreeze_every counts epochs: it needs epochs, not max_steps")
        return self

    @property
    def periods(self) -> int:
        """Number of checkpoints."""
        if self.max_steps is None or self.checkpoint_every is None:
            return self.epochs or 0
        return self.max_steps // self.checkpoint_every

    @property
    def is_open_ended(self) -> bool:
        """Whether no update depends on how many there are to be."""
        return (
            self.max_steps is not None and self.schedule == "inverse_sqrt" and self.warmup_steps is not None
        )

    def place(self, period: int) -> str:
        """Say in words how far the training is after so many checkpoints."""
        if self.checkpoint_every is None:
            return f"epoch {period} of {self.epochs}"
        return f"update {period * self.checkpoint_every:,} of {self.max_steps:,}"


class PretrainingSection(Section):
    """What the model learns from images or texts without labels, before it learns from those with labels: to paint
    patches that it does not see, as `kzoo.training.MaskedImages` teaches, or to find the tokens of a text that were
    replaced, as `kzoo.training.ReplacedTokenDetection` does."""

    epochs: Positive
    """Passes over these images or texts, a checkpoint after each."""

    share: Share | None = None
    """How many of an image's patches are hidden; six tenths unless given."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The peak in these epochs; `training.learning_rate` unless given."""

    unlabelled: list[str] = []
    """Folders of images, or files with a text a line, found as data is, that it learns from besides the training
    data."""

    unlabelled_text: Column | Columns | None = None
    """For such files that are tables: the column of the texts, or several, which a blank joins."""


class LoraSection(Section):
    """Low-rank adapters that train in place of the layers, and are folded into them before the export."""

    rank: Positive
    """How many columns and rows the two factors have."""

    alpha: Annotated[float, Field(gt=0)] | None = None
    """How much adapters count; as the rank unless given, a factor of 1."""

    targets: Annotated[list[str], Field(min_length=1)] = ["query", "value"]
    """The projections that have them, as `kzoo.training.add_lora` names them."""


class DistillationSection(Section):
    """What the model learns from a teacher, as a student."""

    teacher: str
    """A recipe beside this one, which is trained first, unless it was before; a .keras file or a bundle, found as
    data is; for embeddings a checkpoint too, as in `model.pretrained`."""

    initialize: bool = True
    """Whether the student begins with the teacher's weights: its embeddings of the tokens that all these texts
    use, `text.vocab_size` of them at most and every character, and those of its blocks that `layers` says."""

    layers: Literal["uniform", "last", "first"] | list[Positive] = "uniform"
    """Which of the teacher's layers the student's begin as, and learn from: spread evenly, at one end, or by number,
    from 1."""

    weights: dict[Literal["labels", "logits", "hidden", "attention", "embedding"], NotNegative] = {}
    """Of the parts of the loss: half each for labels and logits unless given; for embeddings all on them."""

    temperature: float = Field(default=2.0, gt=0)
    """What logits are divided by."""

    embedding: Literal["cosine", "mse"] = "cosine"
    """How embeddings are compared."""

    unlabelled: list[str] = []
    """Files with a text a line, found as data is, that the student learns from besides."""

    unlabelled_text: Column | Columns | None = None
    """For such files that are tables: the column of the texts, or several, which a blank joins."""

    augmented: int = Field(default=0, ge=0)
    """How many copies of each training text, varied as `text.augment` says, the student learns from besides."""

    epochs: int | None = Field(default=None, gt=0)
    """Passes over the texts with the teacher, before the training on the data by itself begins; unless given, there
    is one training on both at once."""

    learning_rate: float | None = Field(default=None, gt=0)
    """The peak in these epochs; `training.learning_rate` unless given."""

    from_scratch: bool = True
    """Whether the same student is trained without a teacher too, to tell what the teacher is worth."""


class EvaluationSection(Section):
    """What the card leads with, of all that is measured."""

    metric: str | None = None
    """The score that leads: the card, the choice of the best checkpoint, and of the best seed."""

    num_beams: int | None = Field(default=None, ge=1)
    """For translations: how many are kept side by side; the bundle's default unless given."""

    language: str | None = None
    """For translations: what they are in, such as `"de"`, for `bleu_lowercased_tokenized`; what the target file's
    name ends in unless given."""

    mirrored: bool = False
    """For images: whether to measure, besides, the mean of the answers to each image and to its mirror image."""

    show_texts: bool = True
    """Whether card and page show test examples: not where they would offend, or are nobody's business."""


class ExportSection(Section):
    """How the bundle is made."""

    tolerance: float | None = Field(default=None, gt=0)
    """As in `kzoo.export.to_bundle`."""

    dtype: str = "float32"
    """As in `kzoo.export.to_bundle`; `"int8_static"` is calibrated on training examples."""

    target: Literal["any", "cpu"] = "any"
    """As in `kzoo.export.to_bundle`; `"cpu"` makes graphs that ONNX Runtime's CPU kernels are faster on."""

    max_drop: float | None = Field(default=None, ge=0)
    """By how much the leading score may fall below that in float32."""

    explanations: bool = False
    """As in `kzoo.export.to_bundle`."""

    @model_validator(mode="after")
    def _check_dtype(self) -> ExportSection:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: unknown precision '{self.dtype}'.{did_you_mean(self.dtype, DTYPES)}")
        if self.max_drop is not None and self.dtype == "float32":
            raise ValueError("max_drop is for a dtype other than float32")
        return self
