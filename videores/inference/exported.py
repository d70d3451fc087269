"""Read an exported network back: .pt2 by torch, .onnx by ONNX Runtime, both with what they say of themselves."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videores.config import parse
from videores.config.streams import compute_input_shape
from videores.errors import UserError
from videores.inference.preprocessing import Preprocessing
from videores.inference.program_check import check_program
from videores.runtime.files import check_type

DEFAULT_BATCH = 16  # clips


@dataclass(frozen=True)
class ExportDescription:
    """What an exported file says of itself, each field an entry of its metadata."""

    classes: list[str]  # in the order of the outputs
    preprocessing: dict[str, Any]  # of a Preprocessing
    protocol: str | None  # of the run's test; None for public weights
    commit: str | None  # of the code that wrote the file
    input: str  # "clips", float32 B x C x T x H x W, normalized; or "frames", uint8 B x T x H x W x 3, as decoded
    output: str  # "logits" or, for frames, "probabilities"
    folded: bool  # whether batch norms are part of the convolutions
    source: str  # the checkpoint or weights
    config: dict[str, Any] | None = None  # of the run: which videos it was tested on
    epoch: int | None = None  # of the weights, from 0
    step: int | None = None
    quantised: dict[str, Any] | None = None  # how, by tools/compress.py; None: float32

    @property
    def batch_size(self) -> int:
        """Return how many clips the run's test scores at a time; of public weights a default."""
        return parse.build_config(self.config, self.source).data.batch_size if self.config else DEFAULT_BATCH

    def to_metadata(self) -> dict[str, str]:
        """Return each field as JSON."""
        return {key: json.dumps(value) for key, value in vars(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: Path | str) -> "ExportDescription":
        """Read the fields from a file's metadata. Raises UserError."""
        kinds = cls.__annotations__
        if missing := [key for key in ("classes", "preprocessing", "input", "output") if key not in metadata]:
            raise UserError(
                f"{where} was not written by tools/export.py: its metadata has no {missing[0]}; export the network"
            )
        values = {
            key: check_type(text.encode(), kinds[key], f"{where}: {key}", "export the network again")
            for key, text in metadata.items()
            if key in kinds
        }
        return cls(**{**dict.fromkeys(("protocol", "commit")), "folded": False, "source": str(where), **values})


class ExportedNetwork(nn.Module):
    """A network of an exported file.

    It maps clips_BCTHW to logits_BN, or frames_BTHWC to probabilities_BN.
    It has no parameters that could be trained. `classes` and `preprocessing` are those that it was trained with.
    """

    def __init__(self, path: Path, about: ExportDescription, run: Callable[[Tensor], Tensor]):
        super().__init__()
        self.path, self.about, self.run = path, about, run
        self.classes = tuple(about.classes)
        self.preprocessing = Preprocessing.from_json(json.dumps(about.preprocessing), path)

    def forward(self, batch: Tensor) -> Tensor:
        """Run the file's network. Raises UserError for another kind of input or other fixed sizes."""
        self.check_input(batch)
        return self.run(batch)

    def check_input(self, batch: Tensor) -> None:
        """Raise UserError unless a batch is what the file takes, of any batch size."""
        frames = self.preprocessing.clip.frames
        if self.about.input == "frames":
            fits = batch.dtype == torch.uint8 and batch.ndim == 5 and (batch.shape[1], batch.shape[4]) == (frames, 3)
            wanted = f"uint8 B x {frames} x H x W x 3"
        else:
            shape_CTHW = compute_input_shape(self.preprocessing)
            fits = batch.dtype == torch.float32 and tuple(batch.shape[1:]) == shape_CTHW
            wanted = f"float32 B x {' x '.join(map(str, shape_CTHW))}"
        if not fits or not len(batch):
            raise UserError(
                f"{self.path} takes {wanted}, sizes which its export fixed, got {batch.dtype} "
                f"{' x '.join(map(str, batch.shape))}: export the network for these"
            )


def load_exported(path: str | Path) -> ExportedNetwork:
    """Load a .pt2 or .onnx file of tools/export.py, without running code in it.

    Raises UserError for a file that is damaged, of something else, or holds code.
    """
    path = Path(path)
    readers = {".pt2": _load_pt2, ".onnx": _load_onnx}
    if path.suffix not in readers:
        raise UserError(f"{path} must end with {' or '.join(readers)}: give a file of tools/export.py")
    if not path.is_file():
        raise UserError(f"there is no exported file {path}")
    return readers[path.suffix](path)


def _load_pt2(path: Path) -> ExportedNetwork:
    check_program(path)
    with zipfile.ZipFile(path) as archive:
        extra = [name for name in archive.namelist() if "/extra/" in name]
        metadata = {name.partition("/extra/")[2]: archive.read(name).decode() for name in extra}
    about = ExportDescription.from_metadata(metadata, path)
    program = torch.export.load(path)
    modules = {torch.device("cpu"): program.module()}

    def run(batch: Tensor) -> Tensor:
        if batch.device not in modules:
            from torch.export.passes import move_to_device_pass  # here: it takes a while

            modules[batch.device] = move_to_device_pass(program, str(batch.device)).module()
        return modules[batch.device](batch)

    return ExportedNetwork(path, about, run)


def _load_onnx(path: Path) -> ExportedNetwork:
    ort = import_extra("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # by itself it would take all cores
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a class of its own for each cause
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged, or no ONNX file that can be read: {reason}; export again") from None
    about = ExportDescription.from_metadata(session.get_modelmeta().custom_metadata_map, path)
    (name,) = (given.name for given in session.get_inputs())

    def run(batch: Tensor) -> Tensor:
        (answer,) = session.run(None, {name: batch.cpu().contiguous().numpy()})
        return torch.from_numpy(answer).to(batch.device)

    return ExportedNetwork(path, about, run)


def import_extra(name: str) -> Any:
    """Import a package of the extra `export`. Raises UserError where it is absent."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise UserError(f'ONNX files need the package {name}: pip install -e ".[export]"') from None
