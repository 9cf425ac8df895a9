"""One model in several forms: what each scores, weighs and takes."""
