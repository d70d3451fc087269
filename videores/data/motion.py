"""motion8, the embedded data set: real mp4 files, generated on first use, whose class is motion and nothing else.

A textured sprite on a textured background moves left, right, up or down on a torus, turns either way, grows or
shrinks. Shape, texture, colours, start and speed are random and independent of the class within a pair.

The classes are four pairs, each the time reversal of the other, and the files are exact pairs too: one rendered clip,
and the same frames in reverse order under the partner's label. Coding keeps that exact (see CODING).

Why a model that ignores the order of frames gets at most 50 % of the test split: such a model is a function of the
set of frames. Both videos of a pair have the same set, so they get the same scores and the same answer, but their
labels differ: at most one of the two is right. Every test video belongs to exactly one pair, hence at most half of
them. This holds for whole videos, and for every choice of frames that is symmetric under reversal; a window anchored
at the first frame shows the two videos of a pair different frames.
"""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from videores.data.encode import replacing, write_video
from videores.errors import UserError

CLASSES = ("left", "right", "up", "down", "clockwise", "counterclockwise", "grow", "shrink")
PARTNER = dict(zip(CLASSES, (CLASSES[i ^ 1] for i in range(8)), strict=True))

VERSION = 1  # raise it whenever a generated frame changes
VIDEOS = {"train": 2048, "test": 1024}
FRAMES, SIZE, FPS = 16, 32, 25

SPEED = (0.09, 0.18)  # half-widths a frame; a third of that was not learnable in 8 epochs
GROWTH = 0.3  # of the speed: how fast the radius grows; more would leave the frame within 16 frames

# Every frame is a keyframe with the same quantiser, so a frame is coded alike wherever it stands. Constant rate factor
# would adapt to the frames before it: reversed clips then differ by up to 30 grey levels.
CODING = {"qp": "10", "g": "1", "bf": "0", "preset": "veryfast"}


# -- on disk ----------------------------------------------------------------------------------------------------------


def prepare(root: Path | str, seed: int = 0, progress: bool = True, videos: dict[str, int] = VIDEOS) -> None:
    """Make sure that `root` holds the whole data set: train/, test/, train.csv, test.csv, classes.txt, spec.json.

    Safe to interrupt and to call from several processes at once. `videos` is the size of each split.
    """
    root, spec = Path(root), specification(seed, videos)
    if is_complete(root, spec):
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f"{root.name}.lock"):
        if not is_complete(root, spec):  # another process may have finished while we waited
            begin(root, spec)
            write_videos(root, spec, progress)
            write_lists(root, spec)
            os.replace(root / "spec.partial.json", root / "spec.json")


def specification(seed: int, videos: dict[str, int]) -> dict:
    """Everything that determines the files."""
    if set(videos) != set(VIDEOS) or any(n < len(CLASSES) or n % len(CLASSES) for n in videos.values()):
        raise UserError(f"motion8: videos must give train and test as multiples of {len(CLASSES)}, got {videos}")
    geometry = {"frames": FRAMES, "size": SIZE, "fps": FPS}
    return {"name": "motion8", "version": VERSION, "seed": seed, "videos": dict(videos), **geometry}


def is_complete(root, spec):
    found = read_spec(root / "spec.json")
    if found is not None and found != spec:
        raise UserError(
            f"{root} holds another data set or seed: {json.dumps(found)}, wanted {json.dumps(spec)}. "
            "Delete the folder or choose another data.root."
        )
    return found is not None


def read_spec(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return "unreadable"  # equal to no specification


def begin(root, spec):
    """Leave in `root` only what an interrupted run of the same specification wrote, and a mark that says so."""
    partial = root / "spec.partial.json"
    found = read_spec(partial)
    if found is None:
        refuse_foreign(root)
    for path in own_files(root):
        if found != spec or path.name.startswith("."):  # another seed's or version's, or half a file
            path.unlink()
    if found != spec:  # only now: the mark vouches for every file that is there
        write_text(partial, json.dumps(spec, indent=1) + "\n")


def refuse_foreign(root):
    foreign = [path.name for path in root.iterdir() if not path.name.startswith(".spec.partial.")]
    if foreign:
        raise UserError(
            f"{root} is not empty and was not made by motion8 (it has {foreign[0]}): "
            "choose another data.root, or an empty folder."
        )


def own_files(root):
    """Videos and temporary files by the exact names this module gives them; nothing else is ever deleted."""
    video, temporary = rf"\d{{4,}}_({'|'.join(CLASSES)})", r"\.[\w.]+\.\d+\.tmp"
    ours = re.compile(rf"({video}|{temporary})\.mp4|{temporary}\.(json|csv|txt)")
    folders = [folder for folder in (root, root / "train", root / "test") if folder.is_dir()]
    return [path for folder in folders for path in folder.iterdir() if ours.fullmatch(path.name)]


def write_videos(root, spec, progress):
    with tqdm(total=sum(spec["videos"].values()), desc="motion8", unit="video", disable=not progress) as bar:
        for split, count in spec["videos"].items():
            (root / split).mkdir(exist_ok=True)
            for pair in range(count // 2):
                write_pair(root, spec["seed"], split, pair)
                bar.update(2)


def write_pair(root, seed, split, pair):
    forward, backward = (root / path for path, _ in pair_files(split, pair))
    if forward.exists() and backward.exists():
        return
    frames_THWC = render(seed, split, pair)
    write_video(forward, frames_THWC, FPS, options=CODING)
    write_video(backward, frames_THWC[::-1], FPS, options=CODING)


def write_lists(root, spec):
    for split, count in spec["videos"].items():
        with replacing(root / f"{split}.csv") as temporary, open(temporary, "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("path", "label", "group"))
            for pair in range(count // 2):
                rows.writerows((path, label, f"{split}-{pair:04d}") for path, label in pair_files(split, pair))
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def write_text(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


# -- one pair ---------------------------------------------------------------------------------------------------------


def pair_files(split: str, pair: int) -> Iterator[tuple[str, str]]:
    """(path, label) of the rendered clip and of its reversal. The four kinds of pair take turns, so classes balance."""
    rendered = CLASSES[0::2][pair % 4]
    for label in (rendered, PARTNER[rendered]):
        yield f"{split}/{pair:04d}_{label}.mp4", label


def render(seed: int, split: str, pair: int) -> np.ndarray:
    """The clip of a pair, uint8 T,H,W,C; a function of its arguments, so each file can be made alone."""
    rng = np.random.default_rng((seed, list(VIDEOS).index(split), pair))
    background_C, *sprite_colours = colours(rng)
    x_T, y_T, angle_T, radius_T = path(CLASSES[0::2][pair % 4], rng)
    u_THW, v_THW = sprite_coordinates(x_T, y_T, angle_T, radius_T)
    # distance to the edge in pixels: coverage goes from 0 to 1 over one pixel, so motion is smooth below a pixel
    edge_THW = SHAPES[rng.integers(len(SHAPES))](u_THW, v_THW) * radius_T[:, None, None]
    cover_THW1 = np.clip(0.5 - edge_THW, 0, 1)[..., None]
    sprite_THWC = blend(*sprite_colours, texture(u_THW, v_THW, rng))
    frames_THWC = background(background_C, rng) * (1 - cover_THW1) + sprite_THWC * cover_THW1
    return (frames_THWC * 255 + 0.5).astype(np.uint8)


def colours(rng):
    """A dark background and two bright sprite colours, of random hues.

    With either brighter at random the sign of every edge is random too, and small networks found no motion in 6 epochs.
    """
    return rng.uniform(0, 0.4, 3).astype(np.float32), *rng.uniform(0.6, 1, (2, 3)).astype(np.float32)


def path(motion, rng):
    """Centre, angle and radius in pixels for each frame; one of them changes, at constant speed."""
    speed = rng.uniform(*SPEED) * SIZE / 2
    radius = rng.uniform(2.5, 3) if motion == "grow" else rng.uniform(6, 11)
    start = (*rng.uniform(0, SIZE, 2), rng.uniform(0, 2 * np.pi), radius)
    change = {  # of x, y, angle, radius; y points down, so angles grow clockwise; a turning edge moves at the speed
        "left": (-1, 0, 0, 0),
        "up": (0, -1, 0, 0),
        "clockwise": (0, 0, 1 / radius, 0),
        "grow": (0, 0, 0, GROWTH),
    }[motion]
    path_T4 = np.array(start) + speed * np.arange(FRAMES)[:, None] * np.array(change)
    return path_T4.T.astype(np.float32)


def sprite_coordinates(x_T, y_T, angle_T, radius_T):
    """Where each pixel lies on the sprite, whose shapes fit into the unit disc."""
    pixels = np.arange(SIZE, dtype=np.float32) + 0.5
    x_T1W, y_TH1 = wrapped(pixels - x_T[:, None])[:, None, :], wrapped(pixels - y_T[:, None])[:, :, None]
    cos_T11, sin_T11 = ((f(angle_T) / radius_T)[:, None, None] for f in (np.cos, np.sin))
    return cos_T11 * x_T1W + sin_T11 * y_TH1, cos_T11 * y_TH1 - sin_T11 * x_T1W


def wrapped(offset):
    return (offset + SIZE / 2) % SIZE - SIZE / 2


def blend(first_C, second_C, weight_HW):
    return first_C + weight_HW[..., None] * (second_C - first_C)


def texture(u, v, rng):
    """Stripes or checks of random direction and width, 0 to 1. Wide enough not to alias on the smallest sprite."""
    waves = [wave(u, v, rng.uniform(1.5, 6), rng) for _ in range(rng.integers(1, 3))]
    return np.clip(0.5 + np.prod(waves, axis=0), 0, 1)


def wave(u, v, frequency, rng):
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.sin(np.float32(frequency * np.cos(angle)) * u + np.float32(frequency * np.sin(angle)) * v + phase)


def background(colour_C, rng):
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    second_C = np.clip(colour_C + rng.uniform(-0.15, 0.15, 3), 0, 1).astype(np.float32)
    return blend(colour_C, second_C, texture(x, y, rng))


# -- shapes: signed distance to the edge, negative inside; none is a disc, since turning must show ---------------------


def box(u, v, half_width, half_height):
    return np.maximum(abs(u) - half_width, abs(v) - half_height)


def bar(u, v):
    return box(u, v, 0.92, 0.36)


def cross(u, v):
    return np.minimum(box(u, v, 0.94, 0.28), box(u, v, 0.28, 0.94))


def ell(u, v):
    return np.minimum(box(u + 0.4, v, 0.26, 0.72), box(u, v - 0.46, 0.66, 0.26))


def tee(u, v):
    return np.minimum(box(u, v + 0.5, 0.64, 0.26), box(u, v, 0.26, 0.76))


def triangle(u, v):
    return np.maximum(v - 0.5, 0.85 * abs(u) - 0.53 * v - 0.45)


def half_disc(u, v):
    return np.maximum(np.hypot(u, v) - 0.95, v - 0.1)


def crescent(u, v):
    return np.maximum(np.hypot(u, v) - 0.95, 0.6 - np.hypot(u - 0.55, v))


SHAPES = (bar, cross, ell, tee, triangle, half_disc, crescent)
