"""Reading what tools/export.py writes: a network's tensors, and as text what they are for."""

import json

from safetensors import SafetensorError, safe_open

from videores.errors import UserError

ABOUT = ("classes", "model", "preprocessing", "epoch", "step")


def read(path):
    """(state dict, {"classes", "model", "preprocessing", "epoch", "step"}) of a safetensors file; raises UserError."""
    try:
        with safe_open(path, framework="pt") as file:
            about, state = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"there are no weights {path}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file that can be read: {error}") from None
    if not set(ABOUT) <= set(about):
        raise UserError(f"{path} was not written by tools/export.py: it does not say what its weights are for")
    return state, {key: json.loads(about[key]) for key in ABOUT}
