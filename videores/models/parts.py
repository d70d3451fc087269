"""The parts of a network by name, from the input to the classifier: what is frozen, or learns at a rate of its own."""

from videores.models.resnet import ResNet


def parts(model):
    """{"stem": [modules], "layer1": [...], ..., "fc": [...]}: those that have parameters, in the order of the data.

    A pre-activated network has its last norm as "last", a pooling that learns is "pool". Other libraries' networks have
    their blocks as "block0", "block1", ..., and the last of them, their head, as "fc".
    """
    found = resnet_parts(model) if isinstance(model, ResNet) else block_parts(model)
    return {name: modules for name, modules in found.items() if any(True for m in modules for _ in m.parameters())}


def resnet_parts(model):
    stem = [getattr(model, name) for name in model.first]
    stages = {name: [getattr(model, name)] for name in model.stages}
    last = [model.last] if model.last is not None else []
    pool = [model.pool] if hasattr(model.pool, "parameters") else []  # the others are functions
    return {"stem": stem, **stages, "last": last, "pool": pool, "fc": [model.fc]}


def block_parts(model):
    *blocks, head = model.net.blocks
    return {**{f"block{i}": [block] for i, block in enumerate(blocks)}, "fc": [head]}


def depths(model):
    """How many stages the data has passed before each part: 0 for the stem; what follows the stages is of one depth."""
    names = list(parts(model))
    after = ("last", "pool", "fc")
    before = [name for name in names if name not in after]
    return {name: len(before) if name in after else before.index(name) for name in names}
