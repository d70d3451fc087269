"""ms per video of all its test views: videores, which decodes once, against one decode for each clip and crop."""

from dataclasses import replace

from benchmarks import peers, session, videos
from benchmarks.contenders import ALL_FRAMES, FLOOR, FRAMES, OURS, PREPARED, Contender, race
from benchmarks.material import Material, view_clips
from benchmarks.report import Row
from videores.config.schema import TransformConfig
from videores.data.decode import read_frames
from videores.data.views import list_item_views


def add_arguments(parser):
    session.add_arguments(parser)


def main(args):
    return session.run(args, "test", lambda *row: measure(*row, session.rounds_of(args)))


def measure(found, plan, scratch, rounds):
    """The Row of one VideoSet: all contenders make all views of every video in each round."""
    contenders = list(entrants(found, plan, scratch))
    race(contenders, len(found.paths), rounds)
    return Row(found.name, [path.name for path in found.paths], len(found.paths), contenders)


def entrants(found, plan, scratch):
    material = Material(found.paths)
    asked = view_clips(material, plan, scratch)
    yield ours(OURS, material, plan, asked)
    yield ours(ALL_FRAMES, material.without_dropping(), plan, asked)
    for reader in material.exact_readers():
        yield ours(f"{OURS}, {reader}", material, plan, asked, reader)
    if found.prepared:
        yield ours(PREPARED, material.copies(videos.prepared_copy, plan.transform, scratch), plan, asked)
    yield Contender(FRAMES, lambda k: read_frames(material.paths[k], asked.frames_UKT[k].ravel()))
    yield Contender(FLOOR, lambda k: material.decode_only(k, asked.frames_UKT[k].ravel()))
    for decoder in peers.DECODERS:
        yield Contender(f"one view at a time, {decoder}", per_view(material, plan, asked, decoder), peer=True)


def ours(name, material, plan, asked, reader="auto"):
    views = material.data_set(plan, views=plan.views, reader=reader)
    contender = Contender(name, lambda k: all_views(views, k))
    check(contender, material, plan, asked, reader)
    return contender


def all_views(data_set, number):
    return list_item_views(data_set[0, number], data_set.transform.crop, data_set.views)


def check(contender, material, plan, asked, reader):
    """Through the data set, at the files' own size: the first of three crops is then the first square of a frame."""
    for k, (info, clips_KT) in enumerate(zip(material.infos, asked.frames_UKT, strict=True)):
        side = min(info.height, info.width)
        unscaled = replace(plan, transform=TransformConfig(short_side=side, crop=side))
        views = material.data_set(unscaled, views=plan.views.model_copy(update={"crops": 3}), reader=reader)
        truth_THWC = peers.truth(material.paths[k], side)
        for frames_T, shown_THWC in zip(clips_KT, all_views(views, k)[::3].numpy(), strict=True):
            contender.check(shown_THWC, frames_T, truth_THWC)


def per_view(material, plan, asked, decoder):
    places = range(3) if plan.views.crops == 3 else [1]

    def read(k):
        windows = [(int(min(frames_T)), peers.span_of(frames_T)) for frames_T in asked.frames_UKT[k]]
        wanted = [(*window, place, plan.clip, plan.transform) for window in windows for place in places]
        return [peers.one_view(material.paths[k], *view, decoder) for view in wanted]

    return read
