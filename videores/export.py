"""A run's weights as safetensors, a format that holds nothing but tensors and text: for sharing."""

import json

from safetensors.torch import save

from videores import checkpoint
from videores.errors import UserError
from videores.models import weights
from videores.runtime.files import replacing


def export(source, path):
    """Writes the network of a checkpoint to `path`, with what models.exported reads. Returns how many tensors."""
    stored = checkpoint.read(source)
    if not checkpoint.config_of(stored):
        raise UserError(f"{source} was not written by tools/train.py: it has no weights, configuration and classes")
    known, config = stored["hyper_parameters"], stored["hyper_parameters"]["config"]
    about = {
        "classes": known["classes"],
        "model": config["model"],
        "preprocessing": weights.preprocessing_of(config["data"]),
        "epoch": stored["epoch"],
        "step": stored["global_step"],
    }
    network = {key: value for key, value in stored["state_dict"].items() if key.startswith("model.")}
    own = {key.removeprefix("model."): value.contiguous().clone() for key, value in network.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        # not save_file, whose error is none of the disk's where that is full
        temporary.write_bytes(save(own, {"format": "pt", **{key: json.dumps(value) for key, value in about.items()}}))
    return len(own)
