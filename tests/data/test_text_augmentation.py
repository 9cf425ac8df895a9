import numpy as np
import pytest
from pydantic import ValidationError

from kzoo.data import TextAugmentation, augment_texts

TEXTS = [" ".join(f"w{row}x{place}" for place in range(20)) for row in range(200)]


def varied(texts, seed=0, mask_token=None, translate=None, **amounts):
    random = np.random.default_rng(seed)
    options = {"mask_token": mask_token, "translate": translate}
    return augment_texts(texts, TextAugmentation(**amounts), random, **options)


def share(texts, changed):
    """Share of the words that are left."""
    return sum(len(text.split()) for text in changed) / sum(len(text.split()) for text in texts)


def test_no_amounts_leave_texts_as_they_are():
    texts = ["A  dog \n runs.", "", " "]
    assert varied(texts) == texts


def test_the_same_seed_gives_the_same_texts():
    amounts = {"word_dropout": 0.1, "swap": 0.1, "span_mask": 0.1}
    assert varied(TEXTS, seed=3, **amounts) == varied(TEXTS, seed=3, **amounts)
    assert varied(TEXTS, seed=3, **amounts) != varied(TEXTS, seed=4, **amounts)


def test_words_are_left_out():
    changed = varied(TEXTS, word_dropout=0.2)
    assert share(TEXTS, changed) == pytest.approx(0.8, abs=0.03)
    for text, other in zip(TEXTS, changed, strict=True):
        words = iter(text.split())
        assert all(word in words for word in other.split())


def test_words_change_places_with_the_next():
    changed = varied(TEXTS, swap=0.1)
    moved = [
        word != other
        for text, new in zip(TEXTS, changed, strict=True)
        for word, other in zip(text.split(), new.split(), strict=True)
    ]
    assert 0.1 < np.mean(moved) < 0.25
    assert [sorted(text.split()) for text in changed] == [sorted(text.split()) for text in TEXTS]


def test_spans_are_hidden():
    masked = varied(TEXTS, span_mask=0.3, mask_token="[MASK]")
    words = [[word for word in text.split() if word != "[MASK]"] for text in masked]
    assert sum(map(len, words)) / (200 * 20) == pytest.approx(0.7, abs=0.03)
    masks = sum(text.split().count("[MASK]") for text in masked)
    assert masks == pytest.approx(200 * 20 * 0.3 / 2, rel=0.1)
    dropped = varied(TEXTS, span_mask=0.3)
    assert dropped == [" ".join(row) for row in words]


def test_excerpts_are_words_in_a_row():
    changed = varied(TEXTS, excerpt=0.5)
    assert np.mean([text != other for text, other in zip(TEXTS, changed, strict=True)]) == pytest.approx(
        0.5, abs=0.1
    )
    assert all(other and other in text for text, other in zip(TEXTS, changed, strict=True))
    lengths = {len(other.split()) for other in changed}
    assert min(lengths) <= 3 and len(lengths) > 10


def test_a_word_always_stays():
    short = ["a", "a b"] * 50
    for text in varied(short, word_dropout=0.9, span_mask=0.9, excerpt=0.9, mask_token="[MASK]"):
        assert set(text.split()) & {"a", "b"}


def test_pairs_stay_pairs():
    changed = varied([("a b c d", "e f g h"), ("i j", "k l")], swap=0.9)
    assert [sorted("".join(pair).replace(" ", "")) for pair in changed] == [list("abcdefgh"), list("ijkl")]
    assert all(isinstance(pair, tuple) for pair in changed)


def test_half_of_the_texts_are_said_in_other_words():
    asked = []

    def translate(texts):
        asked.append(list(texts))
        return [text.upper() for text in texts]

    changed = varied(TEXTS, back_translation=["there", "back"], translate=translate)
    upper = [text for text, new in zip(TEXTS, changed, strict=True) if new == text.upper()]
    assert len(upper) == pytest.approx(100, abs=25)
    assert asked == [upper]
    assert set(changed) == set(upper).symmetric_difference(TEXTS) | {text.upper() for text in upper}
    assert (
        varied(["a dog"] * 9, back_translation=["a", "b"], translate=lambda some: [""] * len(some))
        == ["a dog"] * 9
    )


@pytest.mark.parametrize(
    "amounts", [{"word_dropout": 1.0}, {"swap": -0.1}, {"back_translation": ["one"]}, {"shuffle": 0.1}]
)
def test_amounts_that_cannot_be(amounts):
    with pytest.raises(ValidationError):
        TextAugmentation(**amounts)
