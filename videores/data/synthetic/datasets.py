"""Define the embedded data sets; writing.py writes their mp4 files.

A textured sprite on a textured background moves left, right, up or down on a torus, turns either way, grows or
shrinks (sprites.py). Shape, texture, colours, start and speed are random, but for what the class says. The unit is a
scene, videos of one group that are drawn together, so that what must not give the class away is exactly alike.

motion8   The class is the motion. The two videos are one clip and its reversal: the same frames, the opposite class.
appear8   The class is the shape, each with its hue. Such pairs again, of one class, and every shape has every motion
          equally often: whoever knows the motion alone is right in 1 of 8 videos.
mixed16   The class is one of 4 shapes and of 4 motions, in such pairs: 1 of 4 is right by the shape alone, or the
          motion alone.
order8    A sprite at rest flashes in two of four hues, far apart, the class is their order. What happens is plain to
          see in every frame, so only the order is hard. A scene has a video of each class, two for each pair of hues:
          with the same frames, and the same windows of up to 16 frames, which see one flash at most.
small     The class is the motion. 64 training videos; the two of a scene share background and watermark, and the
          class, as clips of one recording do: what is seen in one frame tells training videos apart, and no others.
motiontone The class is one of 8 motions and of 8 tones, which are the sound of the files. A scene has a clip of each
          motion, in reversal pairs, and a track of each tone: 64 videos, every clip with every track.
motionhue The class is one of 8 motions and of 8 hues. A scene has a clip and its reversal, each in all hues, which do
          not differ in brightness.
subjects4 The class is one of 4 motions, which are not equally frequent: 12, 6, 3 and 1 videos of each subject, who has
          a background and a sprite. A stand-in for emotions, shown by actors.

Why a model that ignores the order of frames gets at most 50 % of the test split of motion8, mixed16 and order8: such a
model is a function of the set of frames. Two videos have the same set (a clip and its reversal; two hues in both
orders), so they get the same scores and the same answer, but their labels differ: at most one of the two is right.
Every test video belongs to exactly one such pair, hence at most half of them. This holds for whole videos, and for
every choice of frames that is symmetric under reversal (of order8's: that has every frame equally often in the two); a
window anchored at the first frame shows the two videos of a pair different frames. Coding keeps it exact (see CODING in
writing.py).

Why one stream gets at most 1/8 of the test split of motiontone: an answer that follows from the pictures alone is the
same for the 8 videos that have these pictures. Their labels all differ, by the tone, so at most one of them is right.
Every test video is in exactly one such 8, hence at most 1/8 of them. With sound in place of pictures, the labels of the
8 videos of a track differ by the motion. Equal samples are coded to equal bytes, whatever the pictures. Without the
order of frames it is 1/16 for pictures alone, and 1/2 for pictures and sound: a clip and its reversal with the same
track have the same set of frames and the same sound.

Why optical flow gets at most 1/8 of the test split of motionhue: the 8 videos of a clip in all hues have the same flow.
It is computed from grey pictures, and these are equal, pixel by pixel: what a hue adds to red and blue is taken from
green, to less than half a grey level (sprites.tint), and coding loses nothing. This holds for each method that sees
grey pictures, as those of data/video/flow.py do. RGB shows the hue in every frame, but gets at most 50 % without the
order of frames, as on motion8. Neither bound holds for the two together, each frame by frame.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from videores.data.synthetic import sounds, sprites

PAIRS = (("left", "right"), ("up", "down"), ("clockwise", "counterclockwise"), ("grow", "shrink"))
MOTIONS = tuple(motion for pair in PAIRS for motion in pair)
FORWARD = tuple(motion for motion, _ in PAIRS)  # those that are drawn; the others are these backwards
REVERSED_MOTIONS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
SPLITS = ("train", "test", "val")
FRAMES, FPS = 16, 25


class _Scene(NamedTuple):
    draw: Callable[..., tuple[np.ndarray, ...]]  # (rng, paint) -> uint8 frames_THWC of each video
    videos: dict[str, str]  # name -> label
    play: Callable[..., tuple[np.ndarray, ...]] | None = None  # (rng) -> samples_S of the sound of each video


@dataclass(frozen=True)
class Embedded:
    name: str
    classes: tuple[str, ...]
    scenes: tuple[_Scene, ...]  # they take turns, so that classes balance
    videos: dict[str, int]  # how many each split has
    frames: int = FRAMES
    version: int = 1  # raise it whenever a generated frame changes
    stream: tuple[int, ...] = ()  # what makes its random numbers others than another set's
    lossless: bool = False  # coded in RGB

    @property
    def turn(self):
        return sum(len(scene.videos) for scene in self.scenes)


def render_scene(
    embedded: Embedded, seed: int, split: str, number: int, paint: Callable[..., np.ndarray] = sprites.composite
) -> tuple[np.ndarray, ...]:
    """Render the clips of a scene, uint8 frames_THWC.

    It is a function of its arguments, so each file can be made alone. With `sprites.paint_cover` it shows where the
    sprite is.
    """
    rng = np.random.default_rng((seed, SPLITS.index(split), number, *embedded.stream))
    return embedded.scenes[number % len(embedded.scenes)].draw(rng, paint)


def render_sounds(embedded: Embedded, seed: int, split: str, number: int) -> Sequence[np.ndarray | None]:
    """Return float32 samples_S of the sound of each video of a scene, or None.

    Its random numbers are others than those of the pictures, which stay the same without it.
    """
    scene = embedded.scenes[number % len(embedded.scenes)]
    if scene.play is None:
        return (None,) * len(scene.videos)
    return scene.play(np.random.default_rng((seed, SPLITS.index(split), number, *embedded.stream, 1)))


def list_scene_files(embedded: Embedded, split: str, number: int) -> Iterator[tuple[str, str]]:
    """Yield (path, label) of the videos of a scene."""
    for name, label in embedded.scenes[number % len(embedded.scenes)].videos.items():
        yield f"{split}/{number:04d}_{name}.mp4", label


def list_scenes(embedded: Embedded, count: int) -> range:
    """Return the numbers of the scenes that have `count` videos."""
    return range(count * len(embedded.scenes) // embedded.turn)


# -- pairs of a clip and its reversal ---------------------------------------------------------------------------------


def _make_motion_pair(motion, rng, paint):
    """Render a motion of any sprite, and the same frames backwards."""
    colours_3C, path_4T = sprites.draw_colors(rng), sprites.make_path(motion, FRAMES, rng)
    return _make_reversal_pair(sprites.render_sprite(path_4T, sprites.draw_shape(rng), colours_3C, rng, paint))


def _make_shape_pair(shape, motion, rng, paint):
    """Render a motion of a shape in its hue, and the same frames backwards."""
    colours_3C = sprites.draw_dark_color(rng), *sprites.draw_color_of_hue(SHAPES.index(shape) / len(SHAPES), rng)
    path_4T = sprites.make_path(motion, FRAMES, rng)
    return _make_reversal_pair(sprites.render_sprite(path_4T, shape, colours_3C, rng, paint))


def _make_reversal_pair(frames_THWC):
    return frames_THWC, frames_THWC[::-1]


def _make_shape_scenes(shapes, pairs, label):
    """Make the scenes of each shape in each pair of motions.

    `label` has the fields {shape} and {motion}.
    """
    for shape in shapes:
        for pair in pairs:
            labels = {
                f"{shape.__name__}_{motion}": label.format(shape=shape.__name__, motion=motion) for motion in pair
            }
            yield _Scene(partial(_make_shape_pair, shape, pair[0]), labels)


MOTION8 = Embedded(
    name="motion8",
    classes=MOTIONS,
    scenes=tuple(_Scene(partial(_make_motion_pair, pair[0]), dict(zip(pair, pair, strict=True))) for pair in PAIRS),
    videos={"train": 2048, "test": 1024},
)

SHAPES = (*sprites.SHAPES, sprites.dots)
APPEAR8 = Embedded(
    name="appear8",
    classes=tuple(shape.__name__ for shape in SHAPES),
    scenes=tuple(_make_shape_scenes(SHAPES, PAIRS, "{shape}")),
    videos={"train": 1024, "test": 512},
    stream=(1,),
)

MIXED = (sprites.bar, sprites.cross, sprites.triangle, sprites.dots)
MIXED16 = Embedded(
    name="mixed16",
    classes=tuple(f"{shape.__name__}_{motion}" for shape in MIXED for pair in PAIRS[0::2] for motion in pair),
    scenes=tuple(_make_shape_scenes(MIXED, PAIRS[0::2], "{shape}_{motion}")),
    videos={"train": 1024, "test": 512},
    stream=(2,),
)


# -- two events far apart ---------------------------------------------------------------------------------------------

# A window of up to 16 frames sees one flash at most, and sees it as often as the first as it does as the second, since
# the rest before, between and after them is as long as the window. Longer rests would need longer clips to be solved.
REST, FLASH, LENGTH = 16, 4, 64
HUES = ("red", "lime", "cyan", "violet")  # evenly around the circle

# Each hue is in two of the pairs, first in one class and last in the other: it leaves four classes open.
NEIGHBOURS = tuple(zip(HUES, HUES[1:] + HUES[:1], strict=True))
ORDERS = tuple(order for pair in NEIGHBOURS for order in (pair, pair[::-1]))


def _render_orders(rng, paint):
    """Render one sprite at rest that flashes in all the orders, in the same frames.

    So the sprite identifies no class.
    """
    looks_THWC = _render_flashes(rng, paint)
    slack = LENGTH - 3 * REST - 2 * FLASH
    start = REST + int(rng.integers(slack, endpoint=True))
    return tuple(looks_THWC[_make_timeline(start, *order)] for order in ORDERS)


def _render_flashes(rng, paint):
    """Render uint8 frames_THWC: a sprite at rest, and as it looks in each of the hues."""
    background_C, *usual_2C = sprites.draw_colors(rng)
    colours_T2C = np.stack([usual_2C, *(sprites.draw_color_of_hue(i / len(HUES), rng) for i in range(len(HUES)))])
    first_T11C, second_T11C = colours_T2C.transpose(1, 0, 2)[:, :, None, None]
    path_4T = sprites.make_rest_path(len(colours_T2C), rng)
    return sprites.render_sprite(path_4T, sprites.draw_shape(rng), (background_C, first_T11C, second_T11C), rng, paint)


def _make_timeline(start, *order):
    """Return index_T into the frames of `render_flashes`: at rest, but for two hues."""
    index_T = np.zeros(LENGTH, int)
    for begin, hue in zip((start, start + FLASH + REST), order, strict=True):
        index_T[begin : begin + FLASH] = 1 + HUES.index(hue)
    return index_T


ORDER8 = Embedded(
    name="order8",
    classes=tuple("_".join(order) for order in ORDERS),
    scenes=(_Scene(_render_orders, {"_".join(order): "_".join(order) for order in ORDERS}),),
    videos={"train": 512, "test": 256},
    frames=LENGTH,
    stream=(3,),
    version=2,
)


# -- few videos, with backgrounds to memorise -------------------------------------------------------------------------


def _render_recording(motion, rng, paint):
    """Render two clips of a motion on one background, with sprites of their own."""
    background_HWC = sprites.add_watermark(sprites.make_background(sprites.draw_colors(rng)[0], rng), rng)
    return tuple(paint(background_HWC, *_draw_sprite(motion, rng)) for _ in range(2))


def _draw_sprite(motion, rng):
    path_4T = _draw_path(motion, rng)
    return sprites.make_sprite(path_4T, sprites.draw_shape(rng), sprites.draw_colors(rng)[1:], rng)


def _draw_path(motion, rng):
    forward = motion in FORWARD
    path_4T = sprites.make_path(motion if forward else REVERSED_MOTIONS[motion], FRAMES, rng)
    return path_4T[:, :: 1 if forward else -1]


SMALL = Embedded(
    name="small",
    classes=MOTIONS,
    scenes=tuple(
        _Scene(partial(_render_recording, motion), {f"{motion}_c01": motion, f"{motion}_c02": motion})
        for motion in MOTIONS
    ),
    videos={"train": 64, "test": 256, "val": 128},
    stream=(4,),
)

# -- two streams, each of which knows half of the class ---------------------------------------------------------------


def _render_motions(rng, paint):
    """Render a clip of each motion, once for each tone."""
    clips = [clip_THWC for motion in FORWARD for clip_THWC in _make_motion_pair(motion, rng, paint)]
    return tuple(clip_THWC for clip_THWC in clips for _ in sounds.TONES)


def _play_tones(rng):
    """Draw a track of each tone, once for each motion."""
    return tuple(sounds.draw_tone(tone, FRAMES / FPS, rng) for tone in sounds.TONES) * len(MOTIONS)


TONE_CLASSES = tuple(f"{tone}hz_{motion}" for motion in MOTIONS for tone in sounds.TONES)
MOTIONTONE = Embedded(
    name="motiontone",
    classes=TONE_CLASSES,
    scenes=(_Scene(_render_motions, dict(zip(TONE_CLASSES, TONE_CLASSES, strict=True)), _play_tones),),
    videos={"train": 4096, "test": 1024},
    stream=(5,),
)

TINTS = ("red", "magenta", "blue", "azure", "teal", "green", "yellow", "orange")  # evenly around the circle


def _render_tints(motion, rng, paint):
    """Render a motion of any sprite and the same frames backwards, in all hues."""
    path_4T = sprites.make_path(motion, FRAMES, rng)
    grey_THW, cover_THW = sprites.render_grey(path_4T, sprites.draw_shape(rng), rng, paint)
    hues = (np.arange(len(TINTS)) + rng.uniform(-0.2, 0.2, len(TINTS))) / len(TINTS)
    clips = [sprites.tint(grey_THW, cover_THW, hue, rng.uniform(40, 60)) for hue in hues]
    return tuple(clip_THWC for frames_THWC in clips for clip_THWC in _make_reversal_pair(frames_THWC))


def _make_tint_scenes():
    for pair in PAIRS:
        names = [f"{tint}_{motion}" for tint in TINTS for motion in pair]
        yield _Scene(partial(_render_tints, pair[0]), dict(zip(names, names, strict=True)))


MOTIONHUE = Embedded(
    name="motionhue",
    classes=tuple(f"{tint}_{motion}" for tint in TINTS for motion in MOTIONS),
    scenes=tuple(_make_tint_scenes()),
    videos={"train": 4096, "test": 1024},
    stream=(6,),
    lossless=True,
)


# -- persons, and classes of which some are rare ----------------------------------------------------------------------

SHOWN = {"left": 12, "right": 6, "up": 3, "down": 1}  # videos that a subject has of each class


def _render_subject(motions, rng, paint):
    """Render the clips of a subject: one background and one sprite, in its colours, make all motions."""
    background_HWC = sprites.add_watermark(sprites.make_background(sprites.draw_colors(rng)[0], rng), rng)
    shape, colours = sprites.draw_shape(rng), sprites.draw_colors(rng)[1:]
    make = lambda motion: sprites.make_sprite(_draw_path(motion, rng), shape, colours, rng)
    return tuple(paint(background_HWC, *make(motion)) for motion in motions)


_SHOWN_VIDEOS = {f"{motion}_c{n:02}": motion for motion, count in SHOWN.items() for n in range(1, count + 1)}
SUBJECTS4 = Embedded(
    name="subjects4",
    classes=tuple(SHOWN),
    scenes=(_Scene(partial(_render_subject, tuple(_SHOWN_VIDEOS.values())), _SHOWN_VIDEOS),),
    videos={"train": 16 * 22, "test": 24 * 22, "val": 8 * 22},
    stream=(5,),
)

EMBEDDED = (MOTION8, APPEAR8, MIXED16, ORDER8, SMALL, MOTIONTONE, MOTIONHUE, SUBJECTS4)
SETS = {embedded.name: embedded for embedded in EMBEDDED}
