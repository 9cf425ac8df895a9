"""Data: where it lies, how it is read and split, and how images are varied."""

from kzoo.data.augmentation import Augmentation, augment
from kzoo.data.cleaning import Cleaning, CleaningReport, clean_pairs
from kzoo.data.examples import Examples, class_names, split
from kzoo.data.images import digits, read_image_folder, read_npz
from kzoo.data.locations import locate
from kzoo.data.readers import read_pair_table, read_pairs, read_table, read_text, table_format

__all__ = [
    "Augmentation",
    "Cleaning",
    "CleaningReport",
    "Examples",
    "augment",
    "class_names",
    "clean_pairs",
    "digits",
    "locate",
    "read_image_folder",
    "read_npz",
    "read_pair_table",
    "read_pairs",
    "read_table",
    "read_text",
    "split",
    "table_format",
]
