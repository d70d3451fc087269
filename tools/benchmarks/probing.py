"""ms of processor time per file of a probe, which each file needs once, against decoding the file once."""

from benchmarks import session
from benchmarks.contenders import FLOOR, OURS, SCAN, Contender, race
from benchmarks.material import Material
from benchmarks.report import Row
from videores.data.probe import examine
from videores.data.video.scan import scan


def add_arguments(parser):
    session.add_arguments(parser)


def main(args):
    return session.run(args, "probe", lambda found, plan, scratch: measure(found, session.rounds_of(args)))


def measure(found, rounds):
    """The Row of one VideoSet: all contenders work on every file in each round."""
    contenders = list(entrants(found))
    race(contenders, len(found.paths), rounds)
    return Row(found.name, [path.name for path in found.paths], len(found.paths), contenders)


def entrants(found):
    """In this process, without the helper that a probe runs in."""
    paths, material = [str(path) for path in found.paths], Material(found.paths)
    yield Contender(OURS, lambda k: examine(paths[k], (), lambda stage: None))
    yield Contender(SCAN, lambda k: scan(paths[k]))
    yield Contender(FLOOR, lambda k: material.decode_only(k, (0, material.infos[k].num_frames - 1)))
