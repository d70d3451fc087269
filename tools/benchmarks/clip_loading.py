"""ms per training clip: videores on files, by each exact reader, in shards, prepared; the floor; pytorchvideo."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import peers, session, videos
from benchmarks.contenders import ALL_FRAMES, FLOOR, FRAMES, OURS, PREPARED, SHARDS, Contender, race
from benchmarks.material import Material, training_clips
from benchmarks.report import Row
from videores.data.decode import read_frames
from videores.errors import UserError
from videores.runtime import cli


def add_arguments(parser):
    session.add_arguments(parser)
    parser.add_argument("--clips", type=cli.positive, default=16, help="clips a row and round (default: 16)")


def main(args):
    clips = 2 if args.quick else args.clips
    return session.run(args, "loader", lambda *row: measure(*row, clips, session.rounds_of(args)))


def measure(found, plan, scratch, clips, rounds):
    """The Row of one VideoSet: all contenders make the same `clips` training clips in each of `rounds` rounds."""
    contenders = list(entrants(found, plan, scratch, clips))
    race(contenders, clips, rounds)
    return Row(found.name, [path.name for path in found.paths], clips, contenders)


def entrants(found, plan, scratch, clips):
    material = Material(found.paths)
    asked = training_clips(material, plan, clips, scratch)
    yield ours(OURS, material, plan, asked)
    yield ours(ALL_FRAMES, material.without_dropping(), plan, asked)
    for reader in material.exact_readers():
        yield ours(f"{OURS}, {reader}", material, plan, asked, reader)
    packed = material.packed(Path(tempfile.mkdtemp(dir=scratch)))
    yield ours(SHARDS, packed, plan, asked)
    check_equal(material, packed, plan, asked)
    if found.prepared:
        yield ours(PREPARED, material.copies(videos.prepared_copy, plan.transform, scratch), plan, asked)
    yield Contender(FRAMES, lambda k: read_frames(material.paths[asked.number(k)], asked.frames_UKT[k, 0]))
    yield Contender(FLOOR, lambda k: material.decode_only(asked.number(k), asked.frames_UKT[k, 0]))
    for decoder in peers.DECODERS:
        yield pytorchvideo(material, plan, asked, decoder)


def ours(name, material, plan, asked, reader="auto"):
    clips = material.data_set(plan, reader=reader)
    contender = Contender(name, lambda k: clips[asked.keys[k]]["clips"])
    for k, (frames_T,) in enumerate(asked.frames_UKT):
        shown = read_frames(material.paths[asked.number(k)], frames_T, reader=reader)
        contender.check(shown, frames_T, material.truth(asked.number(k)))
    return contender


def check_equal(material, packed, plan, asked):
    """Refuses to go on where the clips of shards are not those of files, bit for bit."""
    clips, others = material.data_set(plan), packed.data_set(plan)
    if not all(torch.equal(clips[key]["clips"], others[key]["clips"]) for key in asked.keys):
        raise UserError(f"{material.names[0]}: clips from shards differ from those of files; report this")


def pytorchvideo(material, plan, asked, decoder):
    numbers, clips_UT = [asked.number(k) for k in range(len(asked.keys))], asked.frames_UKT[:, 0]
    places = [(int(min(frames_T)), peers.span_of(frames_T)) for frames_T in clips_UT]
    wanted = [(material.paths[n], *place, material.infos[n].fps) for n, place in zip(numbers, places, strict=True)]
    contender = Contender(f"pytorchvideo, {decoder}", peer=True)
    with contender.may_fail():
        whole = peers.pytorchvideo_clips(wanted, plan.clip, None, decoder)  # before its transforms
        for k, (first, _) in enumerate(places):
            shown = whole(k).permute(1, 2, 3, 0).numpy()
            contender.check(shown, first + np.arange(len(shown)), material.truth(numbers[k]))
        contender.read = peers.pytorchvideo_clips(wanted, plan.clip, plan.transform, decoder)
    return contender
