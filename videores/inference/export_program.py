"""Write a network as a program that others run: .pt2 by torch.export, .onnx by its exporter.

The batch size stays free; the frames of a clip and the size of the crop are fixed. A program takes normalized clips and
gives logits, or holds its preprocessing: decoded frames of any size in, probabilities out.
"""

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videores.config.streams import compute_input_shape, has_sound
from videores.errors import UserError
from videores.inference.exported import ExportDescription, import_extra
from videores.inference.folding import fold_batch_norms
from videores.inference.frames_network import FramesNetwork
from videores.inference.preprocessing import Preprocessing

EXAMPLE = 2  # clips; from one, torch would fix the batch size at one


def write_program(network: nn.Module, about: ExportDescription, path: Path) -> None:
    """Write a network to a .pt2 or .onnx file.

    It is on the CPU, in the memory layout of scores. `about` says what is written: its input, and whether norms are
    folded. Raises UserError for a network that cannot be exported, and where the extra `export` is not installed.
    """
    preprocessing = Preprocessing.model_validate(about.preprocessing)
    example = _make_example(preprocessing, "clips")
    network = fold_batch_norms(network, example) if about.folded else copy.deepcopy(network)
    if about.input == "frames" and has_sound(preprocessing.stream):
        raise UserError(
            f"the stream {preprocessing.stream} is not made of frames: export the network without --preprocess"
        )
    if about.input == "frames":
        network, example = FramesNetwork(network, preprocessing), _make_example(preprocessing, "frames")
    WRITERS[path.suffix](_trace(network.eval().requires_grad_(False), example), about, path)


def _make_example(preprocessing: Preprocessing, kind: str) -> Tensor:
    """Return a batch that the network takes; its values play no role in what is exported."""
    clip, t = preprocessing.clip, preprocessing.transform
    if kind == "frames":
        return torch.zeros(EXAMPLE, clip.frames, t.short_side + 5, t.short_side + 12, 3, dtype=torch.uint8)
    clips_BCTHW = torch.zeros(EXAMPLE, *compute_input_shape(preprocessing))
    return clips_BCTHW.contiguous(memory_format=torch.channels_last_3d)  # as scores are computed


def _trace(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Return the program of a network for any batch size, and frames of any size.

    Raises UserError for a network that torch.export does not take so.
    """
    dim = torch.export.Dim
    sides = {2: dim("height", min=2, max=16384), 3: dim("width", min=2, max=16384)}
    sizes = {0: dim("batch"), **(sides if example.dtype == torch.uint8 else {})}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an LSTM's flat weights
            program = torch.export.export(network, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # anything, of torch's tracers
        raise UserError(
            f"torch.export does not take this network with a free batch size: {str(error).splitlines()[0]}; "
            "--format safetensors keeps its weights"
        ) from None
    program.example_inputs = None  # they would be in the file, as would paths of this machine
    for node in (node for part in program.graph_module.modules() for node in part.graph.nodes):
        node.meta.pop("stack_trace", None)
    return program


def _write_pt2(program: torch.export.ExportedProgram, about: ExportDescription, path: Path) -> None:
    buffer = io.BytesIO()  # into a file, torch would write the file's temporary name, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels-last weights, which are stored whole
        torch.export.save(program, buffer, extra_files=about.to_metadata())
    path.write_bytes(buffer.getbuffer())


def _write_onnx(program: torch.export.ExportedProgram, about: ExportDescription, path: Path) -> None:
    import_extra("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[about.input], output_names=[about.output]
        )
    written.model.metadata_props.update(about.to_metadata())
    written.save(path)


WRITERS: dict[str, Callable[[torch.export.ExportedProgram, ExportDescription, Path], None]] = {
    ".pt2": _write_pt2,
    ".onnx": _write_onnx,
}
