"""The batches of images that recipes train on: varied, mixed, repeated, and the same for the same epoch."""

import numpy as np
import pytest

import kzoo
from kzoo.data import Augmentation, Examples
from kzoo.recipes.data import images
from kzoo.recipes.data.image_variation import ImageVariation
from kzoo.recipes.data.images import ImageBatches
from kzoo.vision import ImagePreprocessing, preprocessing

SETTINGS = ImagePreprocessing(height=8, width=8, mean=[0.5], std=[0.25])
NAMES = ["a", "b", "c"]


def batches(count=30, settings=SETTINGS, batch_size=12, weights=None, seed=3, epoch=0, **amounts):
    """Images each of its own grey, and so to be told apart."""
    greys = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 8, (count, 8, 8, 3))
    examples = Examples(greys, [NAMES[place % 3] for place in range(count)])
    return ImageBatches(
        examples, settings, batch_size, seed, epoch, Augmentation(**amounts), NAMES, weights=weights
    )


def numbers(batch):
    """Which images a batch is of."""
    return np.round((batch[0][:, 0, 0, 0] * 0.25 + 0.5) * 255 / 8).astype(int).tolist()


def everything(data):
    return [[np.asarray(part) for part in data[place]] for place in range(len(data))]


def test_each_epoch_has_all_images_in_an_order_of_its_own():
    data = batches()
    epochs = []
    for _ in range(2):
        epochs.append([number for place in range(len(data)) for number in numbers(data[place])])
        data.on_epoch_end()
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(30))
    assert epochs[0] != epochs[1]
    assert numbers(batches(seed=None)[0]) == list(range(12))
    assert data[0][1][0] in NAMES


def test_a_training_that_was_stopped_sees_what_another_one_does():
    amounts = {"shift": 0.1, "rand_augment": 1, "erase": 0.5, "mixup": 0.5, "cutmix": 1.0}
    whole = batches(**amounts)
    first = everything(whole)
    whole.on_epoch_end()
    # Batches are asked for out of order too, and more than once.
    whole[1]
    later = everything(batches(epoch=1, **amounts))
    for expected, got in zip(everything(whole), later, strict=True):
        assert all((one == other).all() for one, other in zip(expected, got, strict=True))
    assert any((one[0] != other[0]).any() for one, other in zip(first, later, strict=True))
    assert (batches(seed=4, **amounts)[0][0] != first[0][0]).any()


@pytest.mark.parametrize(("room", "asked"), [(2**20, 30), (100, 60)])
def test_images_are_decoded_once_if_there_is_room_for_all(room, asked, monkeypatch):
    decoded = []

    def decode(found, settings):
        decoded.extend(found)
        return preprocessing.decode(found, settings)

    monkeypatch.setattr(images, "_KEPT_BYTES", room)
    monkeypatch.setattr(images, "decode", decode)
    data = batches()
    first = sorted(number for place in range(3) for number in numbers(data[place]))
    data.on_epoch_end()
    assert sorted(number for place in range(3) for number in numbers(data[place])) == first == [*range(30)]
    assert len(decoded) == asked


def test_repeats_stand_in_one_batch_each_varied_in_its_own_way():
    data = batches(repeats=3, erase=1.0)
    seen = []
    for _ in range(3):
        order = data.order.tolist()
        assert len(order) == 30
        for start in range(0, 30, 12):
            batch = order[start : start + 12]
            assert all(batch.count(image) == 3 for image in batch)
        pixels = data[0][0]
        assert (pixels[0] != pixels[1]).any()
        seen += order
        data.on_epoch_end()
    assert all(seen.count(image) == 3 for image in range(30))


def test_repeats_of_a_number_that_does_not_divide():
    data = batches(count=29, repeats=3, flip=True)
    for _ in range(6):
        assert len(data.order) == 29
        data.on_epoch_end()


def test_images_and_labels_are_mixed_alike():
    # Each image's value says its class, so that the mixed value follows from the mixed label.
    values = {"a": 0, "b": 100, "c": 200}
    images = np.stack([np.full((8, 8, 3), values[NAMES[place % 3]], np.uint8) for place in range(30)])
    weights = np.array([1.0, 2.0, 4.0] * 10, np.float32)
    plain = ImagePreprocessing(height=8, width=8, mean=[0.0], std=[1.0])
    examples = Examples(images, NAMES * 10)
    for amounts in ({"mixup": 1.0}, {"cutmix": 1.0}):
        data = ImageBatches(examples, plain, 30, 0, 0, Augmentation(**amounts), NAMES, weights)
        pixels, labels, counts = data[0]
        assert labels.shape == (30, 3)
        assert np.allclose(labels.sum(axis=1), 1, atol=1e-5)
        assert (labels.max(axis=1) < 0.95).sum() > 5
        # The edges of what CutMix pastes fall between pixels, of which an image has few.
        off = np.abs(pixels.mean(axis=(1, 2, 3)) * 255 - labels @ [0, 100, 200])
        assert off.mean() < (1e-3 if "mixup" in amounts else 10)
        assert np.allclose(counts, labels @ [1, 2, 4], atol=1e-4)


def test_both_ways_of_mixing_take_turns():
    data = batches(count=96, batch_size=12, mixup=1.0, cutmix=1.0)
    # What is blended is of one grey still, what is pasted into is not.
    pasted = [bool((np.ptp(data[place][0], axis=(1, 2)) > 1e-3).any()) for place in range(8)]
    assert set(pasted) == {True, False}


@pytest.mark.backend
def test_a_model_learns_from_mixed_images_epoch_by_epoch():
    class Recorded(ImageBatches):
        """Batches that note when they are asked for."""

        def __getitem__(self, index):
            asked.append((self.epoch, index))
            return super().__getitem__(index)

    asked = []
    model = kzoo.models.cct_2_3x2_32(
        image_size=8,
        labels=NAMES,
        hidden_dim=8,
        num_heads=1,
        num_layers=1,
        intermediate_dim=8,
        convolution_dim=4,
    )
    images = np.zeros((20, 8, 8, 3), np.uint8)
    amounts = Augmentation(mixup=1.0, erase=0.5)
    examples = Examples(images, (NAMES * 7)[:20])
    data = Recorded(examples, model.image_preprocessing, 8, 0, 0, amounts, NAMES)
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    # torch looks at a batch before the first epoch, which counts as one.
    one, other = sorted({epoch for epoch, _ in asked})[-2:]
    assert other == one + 1
    assert {*asked} >= {(epoch, index) for epoch in (one, other) for index in range(3)}


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_vary_images_and_keep_them_in_range(channels):
    settings = ImagePreprocessing(height=16, width=16, channels=channels, mean=[0.5], std=[0.25])
    random = np.random.default_rng(0)
    pixels = random.uniform(-2, 2, (22, 16, 16, channels)).astype(np.float32)
    varied = ImageVariation(Augmentation(rand_augment=2, magnitude=0.5), settings).vary(pixels, random)
    assert varied.dtype == np.float32
    assert varied.shape == pixels.shape
    assert np.isfinite(varied).all()
    assert varied.min() >= -2.001
    assert varied.max() <= 2.001
    changed = np.abs(varied - pixels).max(axis=(1, 2, 3)) > 0.01
    assert changed.sum() > 15


def test_larger_magnitudes_change_more():
    random = np.random.default_rng(0)
    # A smooth picture, which moves and colours change by as much as they go.
    steps = np.linspace(-1.5, 1.5, 16, dtype=np.float32)
    pixels = np.broadcast_to(steps[:, None, None] * steps[None, :, None] / 1.5, (45, 16, 16, 3)).copy()
    change = [
        np.abs(
            ImageVariation(Augmentation(rand_augment=1, magnitude=much), SETTINGS).vary(pixels, random)
            - pixels
        )
        for much in (0.1, 1.0)
    ]
    assert change[1].mean() > 2 * change[0].mean()


def test_erasing_takes_that_share_of_the_images():
    pixels = np.zeros((200, 8, 8, 3), np.float32)
    varied = ImageVariation(Augmentation(erase=0.5), SETTINGS).vary(pixels, np.random.default_rng(0))
    erased = (varied != 0).any(axis=(1, 2, 3))
    assert 70 <= erased.sum() <= 130
    share = (varied[erased] != 0).any(axis=-1).mean(axis=(1, 2))
    assert share.min() < 0.1
    assert 0.2 < share.max() < 0.5
