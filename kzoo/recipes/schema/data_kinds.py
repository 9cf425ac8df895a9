"""The section of a recipe that says what the data is: the kinds there are, and how they are told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from kzoo.data import TAR_SUFFIXES, Cleaning, DocumentBreak, TableFormat, TableTask, table_format

Share = Annotated[float, Field(gt=0, lt=1)]
Column = str | Annotated[int, Field(ge=0)]
Columns = Annotated[list[Column], Field(min_length=1)]
Files = Annotated[list[str], Field(min_length=1)]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class Section(BaseModel):
    """A part of a recipe: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSection(Section):
    """What all kinds of data have in common."""

    validation_share: Share | None = None
    """Share of the training data to validate on; the same whatever the seed."""

    test_share: Share | None = None
    """Share of the training data to test on, where there is no test file."""

    licence: str | None = None
    """What the card says of the data's licence."""

    @model_validator(mode="after")
    def _check_parts(self) -> DataSection:
        for part in ("validation", "test"):
            if getattr(self, part, None) is not None and getattr(self, f"{part}_share") is not None:
                raise ValueError(f"{part} and {part}_share exclude each other")
        return self


class TableData(DataSection):
    """Texts and labels from tables; the columns are as for `kzoo.data.read_table`."""

    task: TableTask = "classification"
    """What the labels are: a class, classes, a tag a word, a number, or how alike two texts are."""

    format: TableFormat | None = None
    encoding: str = "utf-8"
    """What the characters of csv, tsv and jsonl files are written in."""

    quoting: bool | None = None
    """Whether cells may be in quotes; those of csv files may, those of tsv files may not, unless given."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """The character between the cells of csv files; a comma unless given."""

    train: str
    validation: str | None = None
    test: str | None = None
    test_hash_below: Annotated[int, Field(gt=0, lt=256)] | None = None
    """In place of a test file: the examples whose text's sha256 starts with a byte below this."""

    text: Column | Columns | None = None
    """The text's column, or several, which a blank joins; found in the training file unless given."""

    text_pair: Column | Columns | None = None
    """The second text's, where an example is two."""

    label: Column | None = None
    """The label's column; found in the training file unless given."""

    test_text: Column | Columns | None = None
    """The text's columns in the test file, where they differ."""

    label_names: dict[str, str] | None = None
    """What the labels in the files are called."""

    classes: str | None = None
    """A file of the classes' names, a line each; labels are these, or their numbers."""

    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between the labels of a cell, for several; a comma unless given."""

    scale: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """The lowest and highest number that a label may be, which become 0 and 1."""

    drop_duplicates: bool = False
    """Whether training examples are dropped whose text was there before, or is in the test or validation file."""

    @model_validator(mode="after")
    def _check_labels(self) -> TableData:
        numbers = self.task in ("regression", "similarity")
        for name in ("label_names", "classes"):
            if numbers and getattr(self, name) is not None:
                raise ValueError(f"{name} is for classes; the labels of the task {self.task} are numbers")
        if self.label_names is not None and self.classes is not None:
            raise ValueError("label_names and classes exclude each other")
        if self.scale is not None and not numbers:
            raise ValueError("scale is for the tasks regression and similarity, whose labels are numbers")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("scale: the lowest number comes first")
        if self.separator is not None and self.task != "multilabel":
            raise ValueError("separator is for the task multilabel")
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> TableData:
        if self.text_pair is not None and self.text is None:
            raise ValueError("text_pair needs text")
        if self.text_pair is not None and self.task == "tokens":
            raise ValueError("text_pair: the task tokens is for single texts")
        if self.task == "similarity" and self.text is not None and self.text_pair is None:
            raise ValueError("the task similarity compares two texts: set text_pair")
        if self.test_text is not None and self.test is None:
            raise ValueError("test_text is for a test file")
        columns = [column for given in (self.text, self.text_pair, self.label) for column in listed(given)]
        if len(set(columns)) != len(columns):
            raise ValueError("text, text_pair and label are different columns")
        return self

    @model_validator(mode="after")
    def _check_files(self) -> TableData:
        if self.test_hash_below is not None:
            for name in ("test", "test_share"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} and test_hash_below exclude each other")
        kind = self.format or table_format(self.train)
        if self.quoting is not None and kind not in ("csv", "tsv"):
            raise ValueError(f"quoting is for csv and tsv; the training file is {kind}")
        if self.delimiter is not None and kind != "csv":
            raise ValueError(f"delimiter is for csv; the training file is {kind}")
        if kind == "parquet" and self.encoding != "utf-8":
            raise ValueError("encoding is for csv, tsv and jsonl; the training file is parquet")
        try:
            "a".encode(self.encoding)
        except (LookupError, UnicodeError):
            raise ValueError(
                f"encoding: Python knows no '{self.encoding}' for texts; utf-8 and cp1252 are some"
            ) from None
        return self


def listed(columns: Column | Sequence[Column] | None) -> list[Column]:
    """Return the columns that a recipe gives in one way or another."""
    if columns is None:
        return []
    return [columns] if isinstance(columns, str | int) else list(columns)


class AlignedData(DataSection):
    """Source and target texts, line by line, each part a pair of files."""

    format: Literal["aligned"] = "aligned"
    train: Pair
    validation: Pair | None = None
    test: Pair | None = None
    clean: Cleaning = Cleaning()
    """What is dropped from the training data besides pairs with an empty side."""


class PairTableData(DataSection):
    """Source and target texts from tables; the columns are as for `kzoo.data.read_pair_table`."""

    format: TableFormat | None = None
    train: str
    validation: str | None = None
    test: str | None = None
    source: Column
    target: Column
    clean: Cleaning = Cleaning()
    """As of aligned files."""


# The text encoders of the zoo, which learn from plain text by guessing what is hidden.
_ENCODERS = re.compile(r"(xlm_)?(bert|roberta|distilbert|albert|electra|minilm)_")


class PlainTextData(DataSection):
    """Plain text, to learn the language in it from; each part a file or several."""

    task: Literal["causal_lm", "mlm", "next_sentence", "sentence_order"] | None = None
    """What is learnt: to tell each token from those before, or to guess hidden ones from both sides; unless given,
    the latter for a `model.name` that is an encoder. Or, as a class of pairs, whether a sentence follows another, or
    in which order two stand."""

    format: Literal["text"] = "text"
    train: str | Files
    validation: str | Files | None = None
    test: str | Files | None = None
    breaks: DocumentBreak | None = None
    """What stands between two documents, none of which the model sees another from: the end of a line, or a blank
    line; unless given, each file is one document."""

    text: Column | Columns | None = None
    """For files that are tables: the column of the texts, or several, which a blank joins; each row is a document."""

    @model_validator(mode="after")
    def _check_documents(self) -> PlainTextData:
        if self.text is not None and self.breaks is not None:
            raise ValueError("breaks is for files of plain text; of a table each row is a document")
        return self

    @property
    def tells_documents_apart(self) -> bool:
        """Whether a file may hold several documents."""
        return self.breaks is not None or self.text is not None

    @property
    def pairs(self) -> Literal["next", "order"] | None:
        """Which pairs of sentences are learnt from in place of the text, as `kzoo.data.sentence_pairs` makes them."""
        if self.task == "next_sentence":
            return "next"
        return "order" if self.task == "sentence_order" else None

    def task_of(self, model: str | None) -> str:
        """Return the task of a model of that name, if it has one."""
        if self.pairs is not None:
            return "classification"
        if self.task is not None:
            return self.task
        return "mlm" if _ENCODERS.match(model or "") else "causal_lm"


class ArchiveData(DataSection):
    """Images from one npz archive, which may hold the test images too."""

    format: Literal["npz"] = "npz"
    train: str


class TarData(DataSection):
    """Images from one tar archive, which may hold the test images too; as for `kzoo.data.read_image_archive`."""

    format: Literal["tar"] = "tar"
    train: str


class ImageTableData(DataSection):
    """Images from parquet files; the columns are as for `kzoo.data.read_image_table`."""

    format: Literal["parquet"] = "parquet"
    train: str
    validation: str | None = None
    test: str | None = None
    image: str
    label: str
    label_names: dict[str, str] | None = None
    """What the labels in the files are called."""


class FolderData(DataSection):
    """Images in folders, one for each class."""

    format: Literal["folders"] = "folders"
    train: str
    validation: str | None = None
    test: str | None = None


class DigitsData(DataSection):
    """The digits that ship with scikit-learn."""

    format: Literal["digits"] = "digits"


def _data_kind(data: Any) -> str | None:
    """Tell the kind of data by `format` and columns, or else by the training file's name."""
    if not isinstance(data, dict):
        return type(data).__name__
    table = "PairTableData" if "source" in data or "target" in data else "TableData"
    table = "ImageTableData" if "image" in data else table
    kinds = {**dict.fromkeys(get_args(TableFormat), table), "aligned": "AlignedData"}
    kinds |= {"text": "PlainTextData", "npz": "ArchiveData", "tar": "TarData", "folders": "FolderData"}
    kinds["digits"] = "DigitsData"
    train = data.get("train")
    if "format" in data:
        return kinds.get(str(data["format"]))
    if isinstance(train, list):
        return "AlignedData"
    if isinstance(train, str) and train.endswith(".npz"):
        return "ArchiveData"
    if isinstance(train, str) and train.endswith(TAR_SUFFIXES):
        return "TarData"
    if isinstance(train, str) and train.endswith((".txt", ".txt.gz")):
        return "PlainTextData"
    return table if isinstance(train, str) and table_format(train) else None


Data = Annotated[
    Annotated[TableData, Tag("TableData")]
    | Annotated[PairTableData, Tag("PairTableData")]
    | Annotated[AlignedData, Tag("AlignedData")]
    | Annotated[PlainTextData, Tag("PlainTextData")]
    | Annotated[ArchiveData, Tag("ArchiveData")]
    | Annotated[TarData, Tag("TarData")]
    | Annotated[ImageTableData, Tag("ImageTableData")]
    | Annotated[FolderData, Tag("FolderData")]
    | Annotated[DigitsData, Tag("DigitsData")],
    Discriminator(
        _data_kind,
        custom_error_type="data_format",
        custom_error_message="the file's name does not tell what it is: set format to one of "
        "csv, tsv, jsonl, parquet, aligned (train = [source, target]), text, npz, tar, folders, digits",
    ),
]

# By the names that they are told apart by.
DATA_KINDS = {
    kind.__name__: kind
    for kind in (
        TableData,
        PairTableData,
        AlignedData,
        PlainTextData,
        ArchiveData,
        TarData,
        ImageTableData,
        FolderData,
        DigitsData,
    )
}
