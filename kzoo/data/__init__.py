"""Data: where it lies, how it is read and split, and how images and texts are varied."""

from kzoo.data.augmentation import Augmentation, augment
from kzoo.data.cleaning import (
    Cleaning,
    CleaningReport,
    DuplicateReport,
    clean_pairs,
    drop_duplicates,
    drop_empty,
)
from kzoo.data.columns import FoundColumns, find_columns
from kzoo.data.documents import DocumentBreak, read_documents, read_texts, split_documents
from kzoo.data.examples import Examples, class_names, folds, looks_like_ids, split, split_by_hash
from kzoo.data.files import lines_of, read_text
from kzoo.data.image_archives import TAR_SUFFIXES, ImageBytes, read_image_archive, read_image_table
from kzoo.data.images import digits, find_images, read_image_folder, read_npz
from kzoo.data.labels import NUMBER_TASKS, TableTask, label_items, names_of_numbers
from kzoo.data.locations import locate
from kzoo.data.readers import read_pair_table, read_pairs, read_table
from kzoo.data.sentence_order import sentence_pairs
from kzoo.data.tables import Column, Table, TableFormat, table_format
from kzoo.data.text_augmentation import TextAugmentation, augment_texts

__all__ = [
    "NUMBER_TASKS",
    "TAR_SUFFIXES",
    "Augmentation",
    "Cleaning",
    "CleaningReport",
    "Column",
    "DocumentBreak",
    "DuplicateReport",
    "Examples",
    "FoundColumns",
    "ImageBytes",
    "Table",
    "TableFormat",
    "TableTask",
    "TextAugmentation",
    "augment",
    "augment_texts",
    "class_names",
    "clean_pairs",
    "digits",
    "drop_duplicates",
    "drop_empty",
    "find_columns",
    "find_images",
    "folds",
    "label_items",
    "lines_of",
    "locate",
    "looks_like_ids",
    "names_of_numbers",
    "read_documents",
    "read_image_archive",
    "read_image_folder",
    "read_image_table",
    "read_npz",
    "read_pair_table",
    "read_pairs",
    "read_table",
    "read_text",
    "read_texts",
    "sentence_pairs",
    "split",
    "split_by_hash",
    "split_documents",
    "table_format",
]
