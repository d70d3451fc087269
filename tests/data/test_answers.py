"""What is known of embedded videos: the place of the sprite, seen in the files, and the class backwards."""

import json

import numpy as np
import pytest
from helpers.embedded import decode

from videores.config.schema import ClipConfig, TransformConfig, ViewsConfig
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.probe import probe
from videores.data.synthetic import answers, datasets, writing
from videores.data.views import list_item_views

WATERMARKED = ("small", "subjects4")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    for name, embedded in datasets.SETS.items():
        sizes = dict.fromkeys(embedded.videos, embedded.turn)
        writing.prepare_dataset(folder / name, 3, False, sizes, name=name)
    return {name: folder / name for name in datasets.SETS}


def list_paths(root, most=8):
    return [path.relative_to(root).as_posix() for path in sorted(root.glob("test/*.mp4"))][:most]


@pytest.mark.parametrize("name", sorted(set(datasets.SETS) - set(WATERMARKED)))
def test_masks_are_where_the_bright_sprite_is_in_the_files(roots, name):
    root, paths = roots[name], list_paths(roots[name])
    masks = answers.SpriteMasks(answers.find_embedded(root), paths)
    for number, path in enumerate(paths):
        on_THW = masks.read(number, None)[..., 0] > 127
        bright_THW = decode(root / path).max(-1) > 0.575 * 255  # backgrounds are below 0.55, sprites above 0.6
        assert on_THW.shape == bright_THW.shape
        assert (on_THW & bright_THW).sum() > 0.75 * (on_THW | bright_THW).sum(), path


@pytest.mark.parametrize("name", WATERMARKED)
def test_masks_of_sprites_over_a_watermark_are_bright(roots, name):
    root, paths = roots[name], list_paths(roots[name])
    masks = answers.SpriteMasks(answers.find_embedded(root), paths)
    for number, path in enumerate(paths):
        on_THW = masks.read(number, None)[..., 0] > 127
        assert (decode(root / path).max(-1)[on_THW] > 0.5 * 255).mean() > 0.95


def test_a_dataset_cuts_the_masks_like_the_frames(roots):
    root, paths = roots["motion8"], list_paths(roots["motion8"], 2)
    infos = {path: probe(root / path) for path in paths}
    views = ViewsConfig(clips=1, order="reversed")
    videos, shapes = [Video(path, 0) for path in paths], (ClipConfig(frames=8), TransformConfig(short_side=32, crop=28))
    frames, masks = (VideoDataset(root, videos, infos, *shapes, views=views) for _ in range(2))
    masks.cache = answers.SpriteMasks(answers.find_embedded(root), paths)
    shown, on = (list_item_views(one.fixed_views(0, 1), 28, views).numpy() for one in (frames, masks))
    bright = shown.max(-1) > 0.575 * 255
    assert shown.shape == on.shape == (1, 8, 28, 28, 3)
    assert ((on[..., 0] > 127) & bright).sum() > 0.75 * ((on[..., 0] > 127) | bright).sum()


@pytest.mark.parametrize("name", sorted(set(datasets.SETS) - {"appear8"}))
def test_the_class_backwards_is_another_and_its_own_partner(roots, name):
    partners = answers.find_partners(roots[name])
    assert set(partners) == set(datasets.SETS[name].classes)
    assert all(partners[partner] == label != partner for label, partner in partners.items())


def test_reversed_videos_of_a_pair_have_the_partner(roots):
    for name in ("motion8", "mixed16", "motionhue"):
        partners, embedded = answers.find_partners(roots[name]), datasets.SETS[name]
        for number in datasets.list_scenes(embedded, embedded.turn):
            labels = [label for _, label in datasets.list_scene_files(embedded, "test", number)]
            assert [partners[label] for label in labels[0::2]] == labels[1::2]
            clips = datasets.render_scene(embedded, 3, "test", number)
            for one, two in zip(clips[0::2], clips[1::2], strict=True):
                np.testing.assert_array_equal(one, two[::-1])


def test_other_data_have_no_answers(roots, tmp_path):
    assert answers.find_partners(roots["appear8"]) == {}
    assert answers.find_partners(tmp_path) == {}
    (tmp_path / "spec.json").write_text(json.dumps({"mine": 1}))
    assert answers.find_embedded(tmp_path) is None
