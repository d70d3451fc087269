from videores.errors import UserError
from videores.models.weights.safe_load import config_of, differences, read


def load_weights(task, path):
    """Copies a checkpoint's weights into a task of the same architecture and classes, else raises UserError.

    Returns {"epoch", "step"}, at which it was written, "gap", as it was measured of these weights, or None, and the
    "config" that they were trained with.
    """
    stored = read(path)
    config = config_of(stored)
    if config is None:
        raise UserError(f"{path} was not written by tools/train.py: it has no weights, configuration and classes")
    refuse_other_classes(path, stored["hyper_parameters"]["classes"], task.classes)
    refuse_other_network(path, stored, task)
    task.load_state_dict(stored["state_dict"])
    about = {"epoch": stored["epoch"], "step": stored["global_step"], "gap": gap_of(stored)}
    return {**about, "config": config}


def gap_of(stored):
    """None too where the checkpoint was written after other steps than the last validation."""
    measured = stored.get("measured") or {"step": None}
    return measured["gap"] if measured["step"] == stored["global_step"] else None


def refuse_other_classes(path, theirs, ours):
    if theirs != ours:
        pairs = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
        raise UserError(
            f"{path} knows {len(theirs)} classes, the data has {len(ours)}, and they differ (checkpoint / data):\n  "
            + "\n  ".join(pairs[:10] or [f"from number {min(len(theirs), len(ours))} on"])
        )


def refuse_other_network(path, stored, task):
    theirs, ours = stored["state_dict"], task.state_dict()
    lines = differences(theirs, ours)
    if lines:
        name = stored["hyper_parameters"]["config"]["model"]["name"]
        raise UserError(
            f"{path} holds another network ({name}) than the configuration asks for ({task.cfg.model.name}): "
            f"{len(lines)} tensors differ (checkpoint / configuration):\n  " + "\n  ".join(lines[:10])
        )
