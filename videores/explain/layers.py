"""Find layers of a network by name, and record what one puts out and its gradient."""

import torch
from torch import Tensor, nn

from videores.errors import UserError, format_suggestion


def find_layer(network: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """Return a layer and its name; by default what the pooling sees, the last stage.

    The last convolution stands for it in networks of other packages. Raises UserError.
    """
    layers = dict(unwrap(network).named_modules())
    name = name or _find_last_stage(layers)
    if not name or name not in layers:
        if not (shown := _list_outer_layers(layers)):
            raise UserError(
                "an exported file has no layers and no gradients: take method occlusion, frames or order, or the run "
                "that it is of"
            )
        hint = format_suggestion(name, layers) if name else ""
        raise UserError(
            f"layer {name or 'with maps'} must be in the network{hint}: there are {', '.join(shown)}, and those within "
            "them; method occlusion needs no layer"
        )
    return name, layers[name]


def _list_outer_layers(layers):
    """Return the names of the outermost layers, some at least."""
    for depth in range(1, 5):
        names = [name for name in layers if name and name.count(".") <= depth]
        if len(names) >= 4:
            break
    return names


def _find_last_stage(layers):
    """Return the name of the layer before the pooling, None without any."""
    network = layers[""]
    if stages := getattr(network, "stages", ()):
        return stages[-1] if network.last is None else "last"  # pre-activated networks norm and activate after it
    names = [name for name, layer in layers.items() if type(layer).__name__ == "ResStage"]  # of pytorchvideo
    names = names or [name for name, layer in layers.items() if isinstance(layer, (nn.Conv2d, nn.Conv3d))]
    return names[-1] if names else None


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network that torch.compile wraps, whose layers take hooks, or the network itself."""
    return getattr(network, "_orig_mod", network)


def record_layer(
    network: nn.Module, layer: str | None, clips_BCTHW: Tensor, classes_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what a layer puts out and the gradient of the logits of the classes, both BCTHW.

    The backward pass ends at the layer. Raises UserError for a layer without maps.
    """
    name, module = find_layer(network, layer)
    seen: list[Tensor] = []

    def cut(module, inputs, output):
        seen.append(_check_output(name, output).detach().requires_grad_())
        return seen[-1].clone()  # which later layers may change in place

    handle = module.register_forward_hook(cut)  # until the end of the backward pass, which may run the layer again
    try:
        with torch.enable_grad(), disable_autocast(clips_BCTHW):
            score = score_classes(network, clips_BCTHW, classes_B).sum()
            if len(seen) != 1:
                raise UserError(
                    f"layer {name} must run once in a forward pass, not {len(seen)} times: give another one"
                )
            x = seen[0]
            gradient = torch.autograd.grad(score, x, allow_unused=True)[0] if score.requires_grad else None
    finally:
        handle.remove()
    if gradient is None:
        raise UserError(f"layer {name} has no influence on the logits: give another one")
    return _split_frames(x.detach(), len(clips_BCTHW)), _split_frames(gradient, len(clips_BCTHW))


def score_classes(network: nn.Module, clips_BCTHW: Tensor, classes_B: Tensor) -> Tensor:
    """Return a network's logit of a class for each clip.

    Raises UserError in training mode, and for a class that it has not.
    """
    network = unwrap(network)
    if network.training:
        raise UserError("the network must be in eval mode, or a clip's map would depend on its batch: call eval()")
    weight = next((p for p in network.parameters() if p.is_floating_point()), clips_BCTHW)
    logits_BN = network(clips_BCTHW.to(weight.dtype))
    if not 0 <= int(classes_B.min()) <= int(classes_B.max()) < logits_BN.shape[1]:
        raise UserError(f"classes must be from 0 to {logits_BN.shape[1] - 1}, got {classes_B.tolist()}")
    return logits_BN.gather(1, classes_B[:, None])[:, 0]


def disable_autocast(clips_BCTHW: Tensor) -> torch.autocast:
    """Let a network and its gradients have the precision of its weights: bf16 would draw its rounding."""
    return torch.autocast(clips_BCTHW.device.type, enabled=False)


def _check_output(name, output):
    if not isinstance(output, Tensor) or output.ndim not in (4, 5) or output.shape[-2:].numel() < 2:
        got = " x ".join(map(str, output.shape)) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"layer {name} has no spatial maps, it puts out {got}: give a layer before the pooling")
    return output


def _split_frames(x, clips):
    """Return BCTHW of what 2D layers put out for the frames of all clips."""
    return x if x.ndim == 5 else x.unflatten(0, (clips, -1)).transpose(1, 2)
