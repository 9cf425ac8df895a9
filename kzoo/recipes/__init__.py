"""Recipes: from one TOML file to a trained, exported, measured bundle and its card."""

from pathlib import Path

from kzoo.recipes.running import RunResult, run
from kzoo.recipes.schema.config import Recipe, apply_overrides, load_recipe

DIGITS = Path(__file__).with_name("digits.toml")
"""A recipe that needs no data beyond what is installed: a small ViT on handwritten digits."""

__all__ = ["DIGITS", "Recipe", "RunResult", "apply_overrides", "load_recipe", "run"]
