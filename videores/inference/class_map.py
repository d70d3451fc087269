"""Map the classes of weights to those of a data set, by name and by a CSV."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from videores.data.lists import find_label, read_csv_rows
from videores.errors import UserError

ABSENT_LOGIT = -1e4  # of a class that the weights do not have: its probability is 0, and scores stay finite


class MappedNetwork(nn.Module):
    """A network whose logits_BM become logits_BN of other classes.

    outputs_N: for each class the outputs that stand for it, whose probabilities add up; none: the class is never said.
    """

    def __init__(self, network: nn.Module, outputs_N: Sequence[Sequence[int]]):
        super().__init__()
        self.network, self.outputs_N = network, outputs_N

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        logits_BM = self.network(clips_BCTHW).float()
        absent_B = logits_BM.new_full((len(logits_BM),), ABSENT_LOGIT)
        columns = [logits_BM[:, list(outputs)].logsumexp(1) if outputs else absent_B for outputs in self.outputs_N]
        return torch.stack(columns, 1)


def map_classes(theirs: Sequence[str], ours: Sequence[str], path: Path | None = None) -> list[list[int]]:
    """Return for each class of the data the outputs of the weights that stand for it.

    Names are equal, or differ in case, blanks and punctuation only, or are in a row `weights,data` of the CSV `path`.
    Several of the weights' classes may stand for one. Raises UserError for unknown or ambiguous names, and where no
    class is found.
    """
    chosen = _read_map(path, theirs, ours) if path else {}
    plain: dict[str, list[int]] = {}
    for number, name in enumerate(theirs):
        plain.setdefault(_simplify(name), []).append(number)
    outputs_N = []
    for name in ours:
        exact = [theirs.index(name)] if name in theirs else plain.get(_simplify(name), [])
        outputs_N.append(chosen.get(name, exact))
    if not any(outputs_N):
        raise UserError(
            f"none of the {len(ours)} classes of the data ({', '.join(ours[:3])}, ...) is one of the weights' "
            f"{len(theirs)} ({', '.join(theirs[:3])}, ...): give --class-map, a CSV with the columns weights,data"
        )
    _check_unambiguous(outputs_N, chosen, theirs, ours)
    return outputs_N


def _simplify(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _read_map(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> dict[str, list[int]]:
    """Return {class of the data: outputs} of the rows of a CSV."""
    chosen: dict[str, list[int]] = {}
    for where, row in read_csv_rows(path, "weights,data", ("weights", "data"), ("weights", "data")):
        output, label = find_label(row["weights"], list(theirs), where), find_label(row["data"], list(ours), where)
        chosen.setdefault(ours[label], []).append(output)
    return chosen


def _check_unambiguous(
    outputs_N: list[list[int]], chosen: dict[str, list[int]], theirs: Sequence[str], ours: Sequence[str]
) -> None:
    """Raise UserError where an output stands for two classes, or several are only spelled alike."""
    users: dict[int, list[str]] = {}
    for name, outputs in zip(ours, outputs_N, strict=True):
        for output in set(outputs):
            users.setdefault(output, []).append(name)
        if len(outputs) > 1 and name not in chosen:
            users.setdefault(outputs[0], []).append(name)
    for output, names in users.items():
        if len(names) > 1:
            raise UserError(
                f"the weights' class {theirs[output]!r} must stand for one class, got {', '.join(map(repr, names))}: "
                "say which by --class-map, a CSV with the columns weights,data"
            )


def format_map(theirs: Sequence[str], ours: Sequence[str], outputs_N: Sequence[Sequence[int]]) -> list[str]:
    """Return notes on what is not simply equal: renamed, left out and missing classes."""
    renamed = [
        f"{name} = {' + '.join(theirs[n] for n in outputs)}"
        for name, outputs in zip(ours, outputs_N, strict=True)
        if [theirs[n] for n in outputs] not in ([], [name])
    ]
    missing = [name for name, outputs in zip(ours, outputs_N, strict=True) if not outputs]
    left_out = len(theirs) - len({n for outputs in outputs_N for n in outputs})
    lines = [f"note    classes of other names: {', '.join(renamed)}"] if renamed else []
    if left_out:
        lines.append(f"note    {left_out} of the weights' {len(theirs)} classes are none of the data's, and left out")
    if missing:
        lines.append(
            f"warning: the weights do not have {len(missing)} of {len(ours)} classes, whose videos count as wrong: "
            + ", ".join(missing)
        )
    return lines
