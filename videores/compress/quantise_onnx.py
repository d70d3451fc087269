"""Quantise the convolutions of an ONNX file to 8-bit integers, by ONNX Runtime.

static     integers for weights and activations, whose ranges calibration clips set
dynamic    the same with the ranges of each batch, looked for while the network runs
weights    integers for the weights alone, which compute in float32: a small file, no faster
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from videores.errors import UserError
from videores.inference.exported import import_extra

Kind = Literal["static", "dynamic", "weights"]
QUANTISED = {"static": "QLinearConv", "dynamic": "ConvInteger", "weights": "DequantizeLinear"}  # one a convolution
# Between convolutions, so that values stay integers; the mean over frames and the classifier compute in float32.
STATIC_OPERATORS = ["Conv", "Relu", "Add", "MaxPool", "Concat"]


class _Reader:
    """Hand calibration clips to ONNX Runtime: a batch at each call, None at the end."""

    def __init__(self, batches: Iterable[np.ndarray]):
        self.batches = iter(batches)

    def get_next(self):
        clips_BCTHW = next(self.batches, None)
        return None if clips_BCTHW is None else {"clips": clips_BCTHW}


def quantise_file(source: Path, path: Path, kind: Kind, batches: Iterable[np.ndarray] = ()) -> int:
    """Quantise a float32 .onnx file; return how many convolutions it has.

    Args:
        source: takes `clips`, and gives logits.
        batches: normalized clips_BCTHW that set the ranges of activations, for `static`.

    Raises:
        UserError: if a convolution stays in float32, or the extra `export` is not installed.
    """
    onnx, quantization = import_extra("onnx"), import_extra("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")  # without the views of weights that the exporter leaves
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        _write(onnx, quantization, prepared, path, kind, batches)
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(source).graph.node)
    if (quantised := count_operators(path)[QUANTISED[kind]]) != convolutions:
        raise UserError(
            f"{path} was not written: ONNX Runtime must quantise all {convolutions} convolutions, got {quantised}: "
            "keep the file of tools/export.py"
        )
    return convolutions


def _write(onnx, quantization, source, path, kind, batches):
    if kind == "static":
        _quantise_activations(quantization, source, path, batches)
    elif kind == "dynamic":
        unsigned = quantization.QuantType.QUInt8  # ONNX Runtime has no kernel for signed weights here
        quantization.quantize_dynamic(source, path, op_types_to_quantize=["Conv"], weight_type=unsigned)
    else:
        onnx.save(_quantise_weights(onnx, onnx.load(source)), path)


def _quantise_activations(quantization, source, path, batches):
    kinds = dict(activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
    quantization.quantize_static(
        source,
        path,
        _Reader(batches),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=STATIC_OPERATORS,
        **kinds,
    )


def _quantise_weights(onnx, model):
    """Return the model with integer weights of convolutions, and a scale for each output channel."""
    graph, values = model.graph, {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for name in {node.input[1]: None for node in graph.node if node.op_type == "Conv"}:
        weight = onnx.numpy_helper.to_array(values[name])
        scale_C = np.maximum(abs(weight).reshape(len(weight), -1).max(1) / 127, np.finfo("float32").tiny)
        integers = np.round(weight / scale_C.reshape(-1, *[1] * (weight.ndim - 1))).astype("int8")
        graph.initializer.remove(values[name])
        for suffix, array in (("integers", integers), ("scale", scale_C.astype("float32"))):
            graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}_{suffix}"))
        inputs = [f"{name}_integers", f"{name}_scale"]
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def count_operators(path: Path) -> Counter[str]:
    """Count the operators of the graph that ONNX Runtime makes of a file and runs."""
    onnx, ort = import_extra("onnx"), import_extra("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Add entries to the metadata of an .onnx file."""
    onnx = import_extra("onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in model.metadata_props} | dict(metadata))
    onnx.save(model, path)
