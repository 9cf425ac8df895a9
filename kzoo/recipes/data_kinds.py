"""The section of a recipe that says what the data is: the kinds there are, and how they are told apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from kzoo.data import Cleaning, table_format

Share = Annotated[float, Field(gt=0, lt=1)]
Column = str | Annotated[int, Field(ge=0)]
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

    format: Literal["csv", "tsv", "jsonl"] | None = None
    train: str
    validation: str | None = None
    test: str | None = None
    text: Column | list[Column]
    label: Column
    test_text: Column | list[Column] | None = None
    """The text's columns in the test file, where they differ."""

    label_names: dict[str, str] | None = None
    """What the labels in the files are called."""


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

    format: Literal["csv", "tsv", "jsonl"] | None = None
    train: str
    validation: str | None = None
    test: str | None = None
    source: Column
    target: Column
    clean: Cleaning = Cleaning()
    """As of aligned files."""


class ArchiveData(DataSection):
    """Images from one npz archive, which may hold the test images too."""

    format: Literal["npz"] = "npz"
    train: str


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
    kinds = {"csv": table, "tsv": table, "jsonl": table, "aligned": "AlignedData"}
    kinds |= {"npz": "ArchiveData", "folders": "FolderData", "digits": "DigitsData"}
    train = data.get("train")
    if "format" in data:
        return kinds.get(str(data["format"]))
    if isinstance(train, list):
        return "AlignedData"
    if isinstance(train, str) and train.endswith(".npz"):
        return "ArchiveData"
    return table if isinstance(train, str) and table_format(train) else None


Data = Annotated[
    Annotated[TableData, Tag("TableData")]
    | Annotated[PairTableData, Tag("PairTableData")]
    | Annotated[AlignedData, Tag("AlignedData")]
    | Annotated[ArchiveData, Tag("ArchiveData")]
    | Annotated[FolderData, Tag("FolderData")]
    | Annotated[DigitsData, Tag("DigitsData")],
    Discriminator(
        _data_kind,
        custom_error_type="data_format",
        custom_error_message="the file's name does not tell what it is: set format to one of "
        "csv, tsv, jsonl, aligned (train = [source, target]), npz, folders, digits",
    ),
]

# By the names that they are told apart by.
DATA_KINDS = {
    kind.__name__: kind
    for kind in (TableData, PairTableData, AlignedData, ArchiveData, FolderData, DigitsData)
}
