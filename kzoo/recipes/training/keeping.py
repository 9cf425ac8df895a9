"""What happens after each stretch of a training: measuring, keeping, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.card import draw_curve
from kzoo.recipes.directory import OnEpoch, RunDirectory
from kzoo.recipes.schema.config import Recipe


class Measured(Protocol):
    """Data that knows where it is, and what else to measure."""

    def measure(self, steps: int, run: RunDirectory) -> dict[str, float]:
        """Return what is kept of the data and the model after so many batches of this call."""
        ...


class Keeper(keras.callbacks.Callback):
    """Keeps every finished epoch, or stretch of updates, and stops when the loss is no longer a number.

    Args:
        run: where all is kept.
        recipe: the recipe.
        on_epoch: called after each.
        data: what the training reads, if it measures more than Keras does.
        measure: returns the recipe's metric on the validation data, where neither does.
        reseeds: whether chance begins anew with each epoch, which it does with such data anyway.
    """

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        on_epoch: OnEpoch | None,
        data: Measured | None = None,
        measure: Callable[[], float] | None = None,
        reseeds: bool = False,
    ) -> None:
        super().__init__()
        self.run, self.training, self.on_epoch, self.data = run, recipe.training, on_epoch, data
        self.score = leading_column(recipe)
        self.measure = measure
        self.reseeds = reseeds or data is not None
        self.rows = run.history()
        self.step = self.steps = self.epoch = 0
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count."""
        self.started, self.step, self.epoch = time.perf_counter(), 0, epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Make chance begin anew at the first batch, so that a run that goes on draws what it would have drawn.

        Not earlier: torch's loaders draw a number when they are made, which they are only once a run.
        """
        if self.reseeds and self.step == 0:
            reseed(self.model, self.training.seed, self.epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop if the loss is no number."""
        self.step += 1
        self.steps += 1
        if not np.isfinite(logs["loss"]):
            self._stop(f"at step {self.step} after {self.training.place(len(self.rows))}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure and keep."""
        place = self.training.place(epoch + 1)
        # The last step's own update shows in no loss yet.
        if not all(
            np.isfinite(np.asarray(keras.ops.convert_to_numpy(v))).all() for v in self.model.variables
        ):
            self._stop(f"at the last step of {place}")
        row: dict[str, float] = {"epoch": epoch + 1}
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        row |= {name: float(value) for name, value in logs.items()}
        if self.measure is not None:
            row[self.score] = self.measure()
        if self.data is not None:
            row |= {"step": (epoch + 1) * (self.training.checkpoint_every or 1)}
            row |= self.data.measure(self.steps, self.run)
        self.rows.append(row)
        self.run.finish_epoch(self.rows, {self.best(), *self.averaged()}, self.model.save)
        if self.data is not None:
            draw_curve(self.rows, self.best(), self.run.curve)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        if self.on_epoch is not None:
            self.on_epoch(epoch + 1, self.training.periods, row)
        self.run.log(f"{place[0].upper()}{place[1:]}: {shown}.")
        if self.is_over():
            self.model.stop_training = True
            self.run.log(f"No better for {self.training.patience} checkpoints: enough.")

    def best(self) -> int:
        """Return the best epoch so far, from 1; the later one of equals."""
        if "val_loss" not in self.rows[-1]:
            return len(self.rows)

        def rank(epoch: int) -> tuple[float, float, int]:
            row = self.rows[epoch - 1]
            return (row.get(self.score, 0.0), -row["val_loss"], epoch)

        return max(range(1, len(self.rows) + 1), key=rank)

    def averaged(self) -> range:
        """Return the epochs whose weights are averaged, from 1."""
        last = len(self.rows)
        return range(max(last - self.training.average, 0) + 1, last + 1)

    def is_over(self) -> bool:
        """Return whether the recipe's patience has run out."""
        patience = self.training.patience
        return patience is not None and bool(self.rows) and len(self.rows) - self.best() >= patience

    def _stop(self, where: str) -> None:
        last = self.run.last_epoch()
        kept = f"The checkpoint of {self.training.place(last)} is kept" if last else "No checkpoint was made"
        raise KzooError(
            f"The loss is no longer a number, {where}. {kept} in {self.run.path}. A lower "
            "training.learning_rate is what usually helps."
        )


def leading_column(recipe: Recipe) -> str:
    """Return what the score is called, among what is measured after each epoch, that epochs are chosen by.

    Where there is none of that name, the loss on the validation data takes its place.
    """
    # Translations are compared by BLEU, whichever score leads.
    return f"val_{'bleu' if recipe.task == 'seq2seq' else recipe.metric}"


def reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Give each generator, such as dropout's, a state that depends on these numbers alone."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    # torch's dropout has none of its own: it draws from the one of the whole process.
    common, *owns = np.random.SeedSequence((seed, epoch)).spawn(len(states) + 1)
    keras.utils.set_random_seed(int(common.generate_state(1)[0]) >> 2)
    for state, own in zip(states, owns, strict=True):
        state.assign(own.generate_state(2) >> 2)
