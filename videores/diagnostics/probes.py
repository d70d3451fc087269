"""Probe a trained run: frames out of order, corrupted frames, the blocks' responses, checks of heat maps.

Tests are ordinary ones, under <run>/test/. What they say together is in <run>/probe/<protocol>/, a JSON file and a
picture for each part.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from videores import run
from videores.config.schema import Config, ViewsConfig
from videores.data.synthetic import answers
from videores.evaluation import probes
from videores.evaluation.predictions import Predictions, read_predictions
from videores.evaluation.protocol import format_protocol, slugify
from videores.reporting import probe_plots, results
from videores.runtime.files import write_text
from videores.runtime.launch import is_rank_zero

_choices = lambda key: get_args(ViewsConfig.model_fields[key].annotation)
ORDERS = tuple(order for order in _choices("order") if order != "normal")
CORRUPTIONS = tuple(corruption for corruption in _choices("corruption") if corruption != "none")
SEVERITIES = (1, 2, 3, 4, 5)


class _Probe(NamedTuple):
    cfg: Config  # with normal frames
    folder: Path  # of the run
    severities: Sequence[int]
    videos: int  # that heat maps are checked on


def probe_run(
    cfg: Config,
    folder: Path,
    parts: Sequence[str],
    *,
    severities: Sequence[int] = SEVERITIES,
    videos: int = 64,
    out: Path | None = None,
) -> int:
    """Probe a run's best checkpoint, write and print the results, return the exit code.

    Args:
        cfg: of the run, its test views being those of the normal test.
        folder: the run folder.
        parts: of PARTS.
        severities: of the corruptions.
        videos: number of test videos whose heat maps are checked.
        out: where to write, instead of <run>/probe/<protocol>/.

    Raises:
        UserError: for wrong input.
    """
    probe = _Probe(_change_views(cfg, order="normal", corruption="none"), folder, severities, videos)
    target = out or folder / "probe" / slugify(format_protocol(probe.cfg))
    codes = []
    for part in parts:
        found, code = PARTS[part](probe)
        codes.append(code)
        if is_rank_zero():
            _write_part(target, part, {"protocol": format_protocol(probe.cfg), **found})
    if is_rank_zero():
        print(f"wrote   {target}")
    return max(codes)


def _write_part(target, part, found):
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / f"{part}.json", results.format_json(found))
    probe_plots.PLOTS[part](target / f"{part}.png", found)
    for line in probe_plots.FORMATS[part](found):
        print(line)


# Tests


def _probe_orders(probe):
    changed = [_change_views(probe.cfg, order=order) for order in ORDERS]
    (normal, *tested), code = _test_all(probe, changed)
    if normal is None:
        return {}, code
    partners = answers.find_partners(probe.cfg.data.root)
    return probes.compare_orders(normal, dict(zip(ORDERS, tested, strict=True)), partners), code


def _probe_corruptions(probe):
    keys = [(corruption, severity) for corruption in CORRUPTIONS for severity in probe.severities]
    changed = [_change_views(probe.cfg, corruption=corruption, severity=severity) for corruption, severity in keys]
    (normal, *tested), code = _test_all(probe, changed)
    return (probes.summarize_corruptions(normal, dict(zip(keys, tested, strict=True))) if normal else {}), code


def _test_all(probe, changed) -> tuple[list[Predictions | None], int]:
    """Test with normal frames, then with changed ones, and read the predictions."""
    with contextlib.redirect_stdout(io.StringIO()):  # of each test; the files have it all
        tested = run.evaluate_protocols([probe.cfg, *changed], probe.folder)
    return [one.folder and read_predictions(one.folder) for one in tested], max(one.exit_code for one in tested)


def _change_views(cfg, **changes):
    return cfg.model_copy(update={"test": cfg.test.model_copy(update=changes)})


PARTS: dict[str, Callable[[_Probe], tuple[dict[str, Any], int]]] = {
    "orders": _probe_orders,
    "corruptions": _probe_corruptions,
}
