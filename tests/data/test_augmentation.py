import numpy as np
import pytest
from pydantic import ValidationError

from kzoo.data import Augmentation, augment


@pytest.fixture
def images():
    """Sixteen images, each with one bright pixel off the centre."""
    images = np.zeros((16, 9, 9, 2), np.float32)
    images[:, 4, 2] = 1.0
    return images


def varied(images, seed=0, fill=0.0, **amounts):
    return augment(images, Augmentation(**amounts), np.random.default_rng(seed), fill)


def centre(images):
    """Centres of brightness, (n, 2): row and column."""
    weights = images[..., 0] / images[..., 0].sum(axis=(1, 2), keepdims=True)
    rows, columns = np.meshgrid(np.arange(9), np.arange(9), indexing="ij")
    return np.stack([(weights * rows).sum(axis=(1, 2)), (weights * columns).sum(axis=(1, 2))], axis=1)


def test_no_amounts_leave_images_as_they_are(images):
    assert np.allclose(varied(images), images, atol=1e-6)


def test_shifts_stay_within_their_amount(images):
    moved = centre(varied(images, shift=0.2)) - centre(images)
    assert np.abs(moved).max() <= 0.2 * 9 + 1e-4
    assert moved.std(axis=0).min() > 0.3


def test_turns_keep_the_distance_from_the_middle(images):
    turned = centre(varied(images, rotate=90)) - 4
    assert np.allclose(np.hypot(*turned.T), 2, atol=0.2)
    assert turned[:, 0].std() > 0.5


def test_zoom_moves_along_the_line_to_the_middle(images):
    zoomed = centre(varied(images, zoom=0.4)) - 4
    assert np.allclose(zoomed[:, 0], 0, atol=1e-4)
    assert zoomed[:, 1].std() > 0.1


def test_about_half_are_flipped(images):
    flipped = varied(images, flip=True)[:, 4, 6, 0] > 0.99
    assert 3 <= flipped.sum() <= 13
    assert np.allclose(varied(images, flip=True)[flipped], images[flipped][:, :, ::-1], atol=1e-6)


def test_what_comes_into_view_is_filled(images):
    ones = np.ones_like(images)
    filled = varied(ones, shift=0.5, fill=np.array([-1.0, -2.0]))
    assert filled[..., 0].min() == -1
    assert filled[..., 1].min() == -2


def test_the_seed_decides(images):
    assert (varied(images, shift=0.2) == varied(images, shift=0.2)).all()
    assert (varied(images, shift=0.2) != varied(images, seed=1, shift=0.2)).any()


@pytest.mark.parametrize("amounts", [{"shift": 2}, {"rotate": -1}, {"spin": 3}])
def test_amounts_are_checked(amounts):
    with pytest.raises(ValidationError):
        Augmentation(**amounts)
