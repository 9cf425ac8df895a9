"""Knobs of the architectures for images."""

from __future__ import annotations

import keras
import numpy as np

from tests.models.tiny import make_inputs, shaken, tiny


def test_a_layer_scale_of_zero_leaves_the_blocks_out():
    model = tiny("ViT", layer_scale=0.0)
    first, *others = model.hidden_states(make_inputs(model))
    for state in others:
        np.testing.assert_array_equal(state, first)


def test_deeper_blocks_are_dropped_more_often():
    model = tiny("CCT", num_layers=3, drop_path=0.4)
    np.testing.assert_allclose([block.drop_path.rate for block in model.backbone.blocks], [0.0, 0.2, 0.4])


def test_a_distilled_model_averages_its_classifiers():
    both, class_alone = shaken(tiny("DeiT")), tiny("DeiT", distilled=False)
    class_alone.set_weights(both.get_weights()[:-2])
    inputs = make_inputs(both)
    features = both.backbone(inputs)
    by_class = keras.ops.convert_to_numpy(class_alone(inputs)["logits"])
    by_distillation = keras.ops.convert_to_numpy(both.head.distillation(features["pooled_distillation"]))
    for training in (False, True):
        logits = keras.ops.convert_to_numpy(both(inputs, training=training)["logits"])
        np.testing.assert_allclose(logits, (by_class + by_distillation) / 2, atol=1e-4)
