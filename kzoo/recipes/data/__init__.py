"""What a recipe trains on: found, checked, read, varied and put into batches."""
