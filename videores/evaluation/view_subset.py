"""Fewer of the views that saved predictions have: those of a smaller protocol, or others, which are named as such."""

from dataclasses import replace

import numpy as np

from videores.errors import UserError

CROPS = {  # (there, wanted): which of the crops in space those are
    (3, 1): [1],  # the centre of first, centre, last
    (5, 1): [4],  # corners and centre
    (10, 1): [4],
    (10, 5): [0, 1, 2, 3, 4],  # the other five are mirrored
}


def select_views(p, clips=None, crops=None):
    """The same predictions with fewer clips and crops; None keeps what there is. Raises UserError where they cannot be.

    The protocol string says `5of10` clips where testing with 5 would give others.
    """
    words, have_clips, have_crops = p.words, np.unique(p.clip), np.unique(p.crop)
    if clips not in (None, len(have_clips)):
        have_clips, words["clips"] = select_clips(p, have_clips, clips)
    if crops not in (None, len(have_crops)):
        have_crops, words["crops"] = select_crops(p, have_crops, crops), crops
    kept = np.isin(p.clip, have_clips) & np.isin(p.crop, have_crops)
    protocol = "{frames} {clips}x{crops} {fusion} {data}".format(**words)
    return replace(p, clip=p.clip[kept], crop=p.crop[kept], logits=p.logits[:, kept], protocol=protocol)


def select_clips(p, have, wanted):
    """Which clips, and their number as the protocol string has it."""
    if not 1 <= wanted < len(have):
        raise UserError(f"{p.path} has {len(have)} clips of a video: {wanted} cannot be chosen from them")
    if p.words["clips"] == "all":
        raise UserError(
            f"{p.path} has all clips of each video, however many: no {wanted} of them are spread alike over every video"
        )
    alike = p.words["clips"].isdigit() and "shuffled" not in p.words["data"].split()  # each clip is shuffled otherwise
    places = find_same_clips(len(have), wanted, "segments" in p.words["frames"])
    if places is None or not alike:
        return have[space_evenly(len(have), wanted)], f"{wanted}of{p.words['clips']}"
    return have[places], str(wanted)


def find_same_clips(total, wanted, segments=False):
    """Places among `total` uniform test clips of those that `wanted` uniform ones would be; None if they are others.

    Clip k of K begins at the share k / (K - 1) of the places there are, a single one in the middle; of segments clip k
    shows the moments (k + 1/2) / K.
    """
    if segments:
        step, rest = divmod(total, wanted)
        return np.arange(wanted) * step + step // 2 if rest == 0 and step % 2 else None
    if wanted == 1:
        return np.array([total // 2]) if total % 2 else None
    step, rest = divmod(total - 1, wanted - 1)
    return np.arange(wanted) * step if rest == 0 else None


def space_evenly(total, wanted):
    return np.floor(np.linspace(0, total - 1, wanted) + 0.5).astype(int) if wanted > 1 else np.array([total // 2])


def select_crops(p, have, wanted):
    if (len(have), wanted) not in CROPS:
        fewer = [str(few) for many, few in CROPS if many == len(have)]
        hint = f"choose {' or '.join(fewer)}" if fewer else "it stays so"
        raise UserError(f"{p.path} has {len(have)} crops of a clip, of which {wanted} cannot be had: {hint}")
    return have[CROPS[len(have), wanted]]
