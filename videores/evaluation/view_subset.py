"""Select fewer of the views that saved predictions have."""

from dataclasses import replace

import numpy as np

from videores.errors import UserError
from videores.evaluation.predictions import Predictions

CROPS = {  # (crops there are, crops to select): their numbers
    (3, 1): [1],  # the center of first, center, last
    (5, 1): [4],  # corners and center
    (10, 1): [4],
    (10, 5): [0, 1, 2, 3, 4],  # the other five are mirrored
}


def select_views(p: Predictions, clips: int | None = None, crops: int | None = None) -> Predictions:
    """Return predictions with fewer clips and crops; None keeps what there is.

    The protocol string says `5of10` clips where testing with 5 would show others.

    Raises:
        UserError: if the predictions do not contain them.
    """
    words, have_clips, have_crops = p.words, np.unique(p.clip), np.unique(p.crop)
    if clips not in (None, len(have_clips)):
        have_clips, words["clips"] = _select_clips(p, have_clips, clips)
    if crops not in (None, len(have_crops)):
        have_crops, words["crops"] = _select_crops(p, have_crops, crops), str(crops)
    selected = np.isin(p.clip, have_clips) & np.isin(p.crop, have_crops)
    protocol = "{frames} {clips}x{crops} {fusion} {data}".format(**words)
    return replace(p, clip=p.clip[selected], crop=p.crop[selected], logits=p.logits[:, selected], protocol=protocol)


def _select_clips(p, have, count):
    """Return the clips, and their number as the protocol string has it."""
    if not 1 <= count < len(have):
        raise UserError(f"{p.path}: --clips must be between 1 and {len(have)}, the clips of a video, got {count}")
    if p.words["clips"] == "all":
        raise UserError(
            f"{p.path}: --clips={count} needs equally many clips of every video, this protocol has all of each: leave "
            "--clips out"
        )
    alike = p.words["clips"].isdigit() and "shuffled" not in p.words["data"].split()  # each clip is shuffled otherwise
    places = find_same_clips(len(have), count, "segments" in p.words["frames"])
    if places is None or not alike:
        evenly = np.floor(np.linspace(0, len(have) - 1, count) + 0.5).astype(int) if count > 1 else [len(have) // 2]
        return have[evenly], f"{count}of{p.words['clips']}"
    return have[places], str(count)


def find_same_clips(total: int, count: int, segments: bool = False) -> np.ndarray | None:
    """Return which of `total` uniform clips are those of a test with `count`, or None.

    Clip k of K begins at the share k / (K - 1) of the places there are, a single one in the middle; of segments clip k
    shows the moments (k + 1/2) / K.
    """
    if segments:
        step, rest = divmod(total, count)
        return np.arange(count) * step + step // 2 if rest == 0 and step % 2 else None
    if count == 1:
        return np.array([total // 2]) if total % 2 else None
    step, rest = divmod(total - 1, count - 1)
    return np.arange(count) * step if rest == 0 else None


def _select_crops(p, have, count):
    if (len(have), count) not in CROPS:
        fewer = [str(few) for many, few in CROPS if many == len(have)]
        constraint = f"must be {' or '.join(fewer)}" if fewer else "has no smaller choice: leave it out"
        raise UserError(f"{p.path}: --crops {constraint} with {len(have)} crops of a clip, got {count}")
    return have[CROPS[len(have), count]]
