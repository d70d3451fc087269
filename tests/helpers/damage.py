"""Damaged copies of files, the same for the same seed: bit flips, truncations, zeroed and repeated ranges, wrong names.

python tests/helpers/damage.py SOURCE_FOLDER TARGET_FOLDER [count] [seed]

And other values in what JSON files hold.
"""

import copy
import sys
from pathlib import Path

import numpy as np

SUFFIXES = [".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg"]


def flip_bits(content, rng):
    places = rng.integers(0, len(content), rng.integers(1, 40))
    content[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), dtype=np.uint8)
    return content


def flip_header_bits(content, rng):
    places = rng.integers(0, min(len(content), 2000), rng.integers(1, 8))
    content[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), dtype=np.uint8)
    return content


def truncate(content, rng):
    return content[: rng.integers(0, len(content))]


def lose_beginning(content, rng):
    return content[rng.integers(0, len(content)) :]


def zero_range(content, rng):
    start, end = np.sort(rng.integers(0, len(content), 2))
    content[start:end] = 0
    return content


def scramble_range(content, rng):
    start = rng.integers(0, len(content))
    end = min(len(content), start + rng.integers(1, 5000))
    content[start:end] = rng.integers(0, 256, end - start)
    return content


def repeat_range(content, rng):
    start, end = np.sort(rng.integers(0, len(content), 2))
    return np.concatenate([content[:end], content[start:]])


def nothing(content, rng):
    return content


MUTATIONS = [flip_bits, flip_header_bits, truncate, lose_beginning, zero_range, scramble_range, repeat_range, nothing]


def mutate(sources, target, count, seed=0):
    """Writes `count` damaged copies of the files into `target`, in turn of file and kind; returns their names."""
    return [mutate_one(sources[i % len(sources)], Path(target), i, seed) for i in range(count)]


def mutate_one(source, target, i, seed):
    rng = np.random.default_rng([seed, i])
    kind = MUTATIONS[rng.integers(len(MUTATIONS))]
    suffix = source.suffix if kind is not nothing else SUFFIXES[rng.integers(len(SUFFIXES))]
    path = target / f"{i:04}_{kind.__name__}_{source.stem}{suffix}"
    path.write_bytes(kind(np.frombuffer(source.read_bytes(), np.uint8).copy(), rng).tobytes())
    return path.name


VALUES = (None, "x", -1, float("inf"), [], {}, True, [[1]], "9" * 5000, "\0", 10**30, 0.5)


def list_places(value, path=()):
    """The keys and indices that lead to each value, the whole first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from list_places(inner, (*path, key))


def change(value, path, new):
    """A copy in which one value is another, or, for None, is not there."""
    if not path:
        return new
    value = inner = copy.deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    if new is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def list_changes(value):
    """Copies of a value in which one place after the other has two other values."""
    for number, place in enumerate(list_places(value)):
        yield change(value, place, VALUES[number % len(VALUES)])
        yield change(value, place, VALUES[(5 * number + 1) % len(VALUES)])


BROKEN_JSON = (b"", b"{", b"[" * 99999, b"\xff\xfe", b"null", b"3", b'{"a": 1}\n{"a": 1}', b"\0" * 100)


if __name__ == "__main__":
    folder, target, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, (*sys.argv[3:], 1000, 0)[:2])
    target.mkdir(parents=True, exist_ok=True)
    print("\n".join(mutate(sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES), target, count, seed)))
