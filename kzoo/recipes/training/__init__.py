"""How a recipe's model is built, taught, measured on the way and kept."""
