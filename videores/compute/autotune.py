"""Find the precision, memory layout and compilation that train a network fastest, by measuring.

In under a minute: the real network, clip size and batch, or as much of the batch as there is time for. A setting whose
gradients are wrong is out (gradients.py). The rule's setting (precision.py) stays unless another is faster by a margin,
so that noise does not choose.
"""

import copy
import time
from typing import Any

import torch
from torch import nn

from videores.compute import cost, gradient_check, precision
from videores.config.schema import TrainerConfig
from videores.errors import UserError

TIME_BUDGET = 45  # seconds for all timed steps
CHECK_SECONDS = 2  # a step of the gradient check may take about that long
ROUNDS = 3
MAX_TIME_RATIO = 0.95  # another setting must take less than this share of the rule's time


def select_fastest_setting(
    network: nn.Module, shape_BCTHW: tuple[int, ...], classes: int, trainer: TrainerConfig, device: torch.device
) -> dict[str, Any]:
    """Measure the settings that compute right gradients and return the fastest.

    Returns {"chosen": a setting as a dict, "clips": in a timed step, "seconds": of all, "table": a row a setting}.

    `trainer` is that section of the configuration: what it fixes is not varied. The network and the random state stay.
    """
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        clips, label = torch.randn(shape_BCTHW, device=device), torch.arange(shape_BCTHW[0], device=device) % classes
        settings = _list_settings(trainer, device.type)
        network = copy.deepcopy(network).to(device)
        second = _time_setting(network, clips[:2], label[:2], settings[0])
        checked = max(2, min(len(clips), int(2 * CHECK_SECONDS / second)))
        timed = reduce_batch(len(clips), second / 2, len(settings))
        rows = [_check_setting(network, clips[:checked], label[:checked], setting) for setting in settings]
        right = [setting for setting, row in zip(settings, rows, strict=True) if row["wrong"] is None]
        times = _measure_settings(network, clips[:timed], label[:timed], right)
        if not times:
            raise UserError("no setting that run.autotune may choose trains right here:\n" + _format_timings(rows))
        best = pick_fastest(times, precision.select_setting(trainer, device.type))
        if device.type == "cuda" and trainer.compile == "auto":
            compiled = best._replace(compiled=True)
            times |= _measure_settings(network, clips[:timed], label[:timed], [compiled])
            rows.append({**compiled._asdict(), "error": None, "wrong": None})
            best = pick_fastest(times, best)
    for row in rows:
        setting = precision.PrecisionSetting(row["precision"], row["channels_last"], row["compiled"])
        row["ms"] = round(1000 * times[setting], 2) if times.get(setting) else None
    seconds = round(time.perf_counter() - began, 1)
    return {"chosen": best._asdict(), "clips": timed, "seconds": seconds, "table": rows}


def _list_settings(trainer, device):
    """List the settings that a device can do and the configuration leaves open.

    float32 is first, if it is among them.
    """
    formats = ["fp32", "bf16"] if precision.has_bf16(device) else ["fp32"]
    if device == "cuda":
        formats += ["tf32"] if precision.is_ampere() else ["fp16"]
    formats = formats if trainer.precision == "auto" else [trainer.precision]
    layouts = [False, True] if trainer.channels_last == "auto" else [trainer.channels_last]
    return [precision.PrecisionSetting(f, layout, trainer.compile is True) for f in formats for layout in layouts]


def _time_setting(network, clips, label, setting):
    """Return the seconds of the second step."""
    eager = setting._replace(compiled=False)
    return _measure_settings(network, clips, label, [eager], rounds=1)[eager]


def reduce_batch(clips, second_a_clip, settings):
    """Return how many clips a timed step may have, at least two.

    Each setting warms up twice.
    """
    steps = settings * (ROUNDS + 2)
    while clips > 2 and clips * second_a_clip * steps > TIME_BUDGET:
        clips = -(-clips // 2)
    return clips


def _check_setting(network, clips, label, setting):
    """Return a row of the table: the gradients' error, and whether it is too large."""
    tf32 = setting.precision == "tf32"
    precision.set_tf32(tf32)
    errors = gradient_check.compute_layer_errors(network, clips, label, setting._replace(compiled=False))
    precision.set_tf32(False)
    worst = max(errors, key=errors.get, default=None)
    error = errors.get(worst, 0.0)
    wrong = f"gradient of {worst} is off by {error:.3g}" if not error <= gradient_check.MAX_RELATIVE_ERROR else None
    return {**setting._asdict(), "error": error if error < float("inf") else None, "wrong": wrong}


def _measure_settings(network, clips, label, settings, rounds=ROUNDS):
    """Return {setting: median seconds of a step}, measured in turns.

    Settings without enough memory are left out.
    """
    runs = {setting: _make_step(network, clips, label, setting) for setting in settings}
    able = {}
    for setting, run in runs.items():
        try:
            run()
            able[setting] = run
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return cost.time_interleaved(able, rounds, clips.device.type) if able else {}


def _make_step(network, clips, label, setting):
    network = copy.deepcopy(network).train()
    if setting.compiled:
        network.compile()

    def run():
        network.zero_grad()
        precision.set_tf32(setting.precision == "tf32")
        cost.run_step(network, clips, label, setting)
        precision.set_tf32(False)

    return run


def pick_fastest(times, usual):
    best = min(times, key=times.get)
    return usual if usual in times and times[best] > MAX_TIME_RATIO * times[usual] else best


def _format_timings(rows):
    return "\n".join(f"  {row['precision']}: {row['wrong'] or 'not enough memory'}" for row in rows)


def format_table(found: dict[str, Any]) -> str:
    """Format what was measured, a line a setting."""
    chosen = precision.PrecisionSetting(**found["chosen"])
    lines = []
    for row in found["table"]:
        setting = precision.PrecisionSetting(row["precision"], row["channels_last"], row["compiled"])
        what = row["wrong"] or ("not enough memory" if row["ms"] is None else f"{row['ms']:9.1f} ms")
        lines.append(f"        {setting!s:32} {what}{'  chosen' * (setting == chosen)}")
    return "\n".join([*lines, f"        {found['clips']} clips a timed step, {found['seconds']:.0f} s in all"])
