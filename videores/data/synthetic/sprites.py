"""Render a textured sprite on a textured background, by pure functions.

The frame is a torus of SIZE x SIZE pixels, so that a sprite that leaves on one side comes back on the other. Everything
random comes from the generator that is given, in the order in which the functions are called.
"""

import numpy as np

SIZE = 32  # pixels

SPEED = (0.09, 0.18)  # half-widths a frame; a third of that was not learnable in 8 epochs
GROWTH = 0.3  # of the speed: how fast the radius grows; more would leave the frame within 16 frames


def render_sprite(path_4T, shape, colours_3C, rng, paint=None):
    """Render uint8 frames_THWC of one sprite on a background of its own, with `composite` or another `paint`."""
    background_C, *sprite_colours = colours_3C
    cover_THW1, sprite_THWC = make_sprite(path_4T, shape, sprite_colours, rng)
    return (paint or composite)(make_background(background_C, rng), cover_THW1, sprite_THWC)


def make_sprite(path_4T, shape, colours_2C, rng):
    """Return (cover_THW1 from 0 to 1, colors_THWC) of a sprite that follows path_4T.

    The path gives x, y, angle and radius in each frame.
    """
    u_THW, v_THW = compute_coordinates(*path_4T)
    # distance to the edge in pixels: coverage goes from 0 to 1 over one pixel, so motion is smooth below a pixel
    edge_THW = shape(u_THW, v_THW) * path_4T[3][:, None, None]
    cover_THW1 = np.clip(0.5 - edge_THW, 0, 1)[..., None]
    return cover_THW1, blend(*colours_2C, make_texture(u_THW, v_THW, rng))


def composite(background_HWC, cover_THW1, sprite_THWC):
    frames_THWC = background_HWC * (1 - cover_THW1) + sprite_THWC * cover_THW1
    return (frames_THWC * 255 + 0.5).astype(np.uint8)


def paint_cover(background_HWC, cover_THW1, sprite_THWC):
    """Return uint8 frames_THWC that are white where the sprite is, and black elsewhere."""
    return composite(np.zeros_like(background_HWC), cover_THW1, np.ones_like(sprite_THWC))


def render_grey(path_4T, shape, rng, paint):
    """Render (uint8 frames_THW, cover_THW) of a grey sprite on a grey background of its own."""
    cover_THW1, sprite_THWC = make_sprite(path_4T, shape, rng.uniform(0.6, 0.75, (2, 1)).astype(np.float32), rng)
    background_HW1 = make_background(draw_dark_color(rng), rng)[..., :1]
    return paint(background_HW1, cover_THW1, sprite_THWC)[..., 0], cover_THW1[..., 0]


def tint(grey_THW, cover_THW, hue, strength):
    """Return uint8 frames_THWC of a hue, and of the brightness of grey ones.

    The hue is from 0 to 1 around the circle. Where the sprite covers, red and blue are up to `strength` levels off, and
    green makes up for them. Its step is 0.587 of a level, so the brightness (ITU-R BT.601) is off by 0.3 at most, and
    rounds to the same level.
    """
    levels_THW = grey_THW.astype(int)
    red, blue = (levels_THW + np.rint(strength * f(2 * np.pi * hue) * cover_THW) for f in (np.cos, np.sin))
    green = np.rint((levels_THW - 0.299 * red - 0.114 * blue) / 0.587)
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)  # only white masks are cut off


def draw_colors(rng):
    """Draw a dark background and two bright sprite colors, of random hues.

    With either brighter at random the sign of every edge is random too, and small networks found no motion in 6 epochs.
    """
    return draw_dark_color(rng), *rng.uniform(0.6, 1, (2, 3)).astype(np.float32)


def draw_dark_color(rng):
    return rng.uniform(0, 0.4, 3).astype(np.float32)


def draw_color_of_hue(hue, rng):
    """Draw two bright sprite colors near a hue, 0 to 1 around the circle."""
    near, saturation, value = rng.uniform((hue - 0.03, 0.4, 0.8), (hue + 0.03, 0.8, 1), (2, 3)).T[:, :, None]
    pure_2C = np.clip(abs((6 * near + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - pure_2C))).astype(np.float32)


def make_path(motion, frames, rng):
    """Return float32 path_4T: center, angle and radius in pixels for each frame.

    One of them changes, at constant speed.
    """
    speed = rng.uniform(*SPEED) * SIZE / 2
    radius = rng.uniform(2.5, 3) if motion == "grow" else rng.uniform(6, 11)
    start = (*rng.uniform(0, SIZE, 2), rng.uniform(0, 2 * np.pi), radius)
    change = {  # of x, y, angle, radius; y points down, so angles grow clockwise; a turning edge moves at the speed
        "left": (-1, 0, 0, 0),
        "up": (0, -1, 0, 0),
        "clockwise": (0, 0, 1 / radius, 0),
        "grow": (0, 0, 0, GROWTH),
    }[motion]
    path_T4 = np.array(start) + speed * np.arange(frames)[:, None] * np.array(change)
    return path_T4.T.astype(np.float32)


def make_rest_path(frames, rng):
    """Return path_4T of a sprite at rest."""
    start_4 = (*rng.uniform(0, SIZE, 2), rng.uniform(0, 2 * np.pi), rng.uniform(6, 11))
    return np.repeat(np.float32(start_4)[:, None], frames, axis=1)


def compute_coordinates(x_T, y_T, angle_T, radius_T):
    """Return where each pixel lies on the sprite, whose shapes fit into the unit disc."""
    pixels = np.arange(SIZE, dtype=np.float32) + 0.5
    x_T1W, y_TH1 = wrap_offset(pixels - x_T[:, None])[:, None, :], wrap_offset(pixels - y_T[:, None])[:, :, None]
    cos_T11, sin_T11 = ((f(angle_T) / radius_T)[:, None, None] for f in (np.cos, np.sin))
    return cos_T11 * x_T1W + sin_T11 * y_TH1, cos_T11 * y_TH1 - sin_T11 * x_T1W


def wrap_offset(offset):
    return (offset + SIZE / 2) % SIZE - SIZE / 2


def blend(first_C, second_C, weight_HW):
    return first_C + weight_HW[..., None] * (second_C - first_C)


def make_texture(u, v, rng):
    """Return stripes or checks of random direction and width, 0 to 1.

    They are wide enough not to alias on the smallest sprite.
    """
    waves = [make_wave(u, v, rng.uniform(1.5, 6), rng) for _ in range(rng.integers(1, 3))]
    return np.clip(0.5 + np.prod(waves, axis=0), 0, 1)


def make_wave(u, v, frequency, rng):
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.sin(np.float32(frequency * np.cos(angle)) * u + np.float32(frequency * np.sin(angle)) * v + phase)


def make_background(colour_C, rng):
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    second_C = np.clip(colour_C + rng.uniform(-0.15, 0.15, 3), 0, 1).astype(np.float32)
    return blend(colour_C, second_C, make_texture(x, y, rng))


def add_watermark(image_HWC, rng):
    """Add a square of random colored blocks, as a channel's logo is in all it sends."""
    blocks_HWC = rng.integers(0, 2, (4, 4, 3)).astype(np.float32).repeat(2, axis=0).repeat(2, axis=1)
    y, x = rng.integers(0, SIZE - len(blocks_HWC), 2, endpoint=True)
    image_HWC[y : y + len(blocks_HWC), x : x + len(blocks_HWC)] = blocks_HWC
    return image_HWC


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


def dots(u, v):
    return np.minimum(np.hypot(u - 0.55, v), np.hypot(u + 0.55, v)) - 0.4


SHAPES = (bar, cross, ell, tee, triangle, half_disc, crescent)


def draw_shape(rng):
    return SHAPES[rng.integers(len(SHAPES))]
