"""The graph that explains a bundle: slopes of log odds, and attention, beside the logits."""

from __future__ import annotations

from typing import Any

from kzoo.explanation.gradients import slopes
from kzoo.models import InputSpec, TransformerModel
from kzoo.models.graphs import Graph, bare_graph
from kzoo.runtime.explanation import scale_of


def explaining_graph(model: TransformerModel) -> Graph:
    """Return the graph of a model's explanations.

    Its inputs are the model's, and `token_scale` float32 (batch, sequence), or for images `pixel_scale`
    (batch, height, width), and `label` int64 (batch,), as `kzoo.explanation.gradients.slopes` takes them. Its outputs
    are `logits` (batch, classes), `slopes`, of the scale's shape, and `attention` (batch, layers, heads, sequence,
    sequence).
    """
    bare = bare_graph(model)
    first = next(iter(bare.inputs.values())).shape
    name = scale_of(bare.inputs)[1]

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        own = {name: inputs[name] for name in bare.inputs}
        return slopes(model, own, inputs[name], inputs["label"], attention=True)

    more = {name: InputSpec(first[:3], "float32"), "label": InputSpec(first[:1], "int64")}
    return Graph(function, {**bare.inputs, **more}, bare.max_length, differentiates=True)
