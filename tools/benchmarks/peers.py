"""How others read: the decode-only floor, pytorchvideo's data set, and per-view loading as PySlowFast does it.

Besides `videores.data` the only module that touches decoders, since it reads as others do and not as we do.
"""

import sys
import warnings
from contextlib import contextmanager
from fractions import Fraction

import av
import decord
import numpy as np
import torch
import torchvision
from torch.nn import functional as F
from torch.utils.data import SequentialSampler

DECODERS = ("decord", "pyav")
SEEK_MARGIN = 1024  # ticks of a stream's clock that PySlowFast and pytorchvideo seek ahead of the first frame


# -- the truth and the floor ------------------------------------------------------------------------------------------


def truth(path, side=None):
    """thumbnails_THWC of one plain sequential decode: which frame is which, whatever a reader says.

    Of whole frames, or of the square of `side` pixels in their upper left corner.
    """
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.best("video"))
        images = (np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in frames)
        return np.stack([thumbnail(image_HWC[:side, :side]) for image_HWC in images])


def thumbnail(image_HWC):
    """Every n-th pixel, about 32 x 32 of them: enough to tell frames apart, and a long video fits into memory."""
    height, width = image_HWC.shape[:2]
    return np.array(image_HWC[:: -(-height // 32), :: -(-width // 32)], dtype=np.int16)


def decode_only(path, first, last, keyframes=()):
    """Decodes the packets that frames first..last need, from the last of the (frame, time stamp) `keyframes` before
    them or else from the start, and converts nothing. Returns how many frames were decoded.
    """
    start, time = max((key for key in keyframes if key[0] <= first), default=(0, None))
    index, decoded = start - 1, 0
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        if start:
            container.seek(time, stream=stream)
        for frame in container.decode(stream):  # after a seek earlier frames may come first
            decoded += 1
            index += index >= start or start == 0 or frame.pts == time
            if index == last:
                break
    return decoded


# -- pytorchvideo -----------------------------------------------------------------------------------------------------


def pytorchvideo_clips(requests, clip, transform, decoder):
    """A function that returns clip k of `requests`, (path, first frame, span in frames, fps) of each, from
    pytorchvideo's data set.

    Its LabeledVideoDataset with its own decoders and transforms, float clips_CTHW; `transform` None leaves all frames
    of the clip's time. Clips must be asked for in order, as from any iterable data set; asking for 0 starts again.
    """
    with old_torchvision():
        from pytorchvideo.data import LabeledVideoDataset
        from pytorchvideo.data.clip_sampling import ClipInfo

    def sample(_last, _duration, wanted):
        # a quarter of a frame early: rounding must not cost it the first frame
        start, fps = wanted["first"] - Fraction(1, 4), Fraction(wanted["fps"])
        return ClipInfo(max(start, 0) / fps, (start + wanted["span"]) / fps, 0, 0, True)

    sample.reset = lambda: None
    names = ("label", "first", "span", "fps")
    videos = [(str(path), dict(zip(names, (0, *wanted), strict=True))) for path, *wanted in requests]
    steps = transform and pytorchvideo_steps(clip, transform)
    dataset = LabeledVideoDataset(videos, sample, SequentialSampler, steps, decode_audio=False, decoder=decoder)

    def read(k):
        if k == 0:
            iter(dataset)
        return next(dataset)["video"]

    return read


def span_of(frames_T):
    """How many frames the time of a clip takes, up to where its next frame would be."""
    reach = int(max(frames_T)) - int(min(frames_T))
    return reach + max(1, round(reach / max(len(frames_T) - 1, 1)))


@contextmanager
def old_torchvision():
    """pytorchvideo 0.1.5 imports a module that torchvision has renamed; it is there for the time of the import."""
    name = "torchvision.transforms.functional_tensor"
    sys.modules[name] = torchvision.transforms._functional_tensor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        del sys.modules[name]


def pytorchvideo_steps(clip, transform):
    """The training transform of its tutorials, at our sizes."""
    with old_torchvision():
        from pytorchvideo import transforms as ours
    from torchvision import transforms as theirs

    short_sides = transform.jitter or (transform.short_side, transform.short_side)
    steps = [
        ours.UniformTemporalSubsample(clip.frames),
        theirs.Lambda(lambda clip_CTHW: clip_CTHW / 255.0),
        ours.Normalize(transform.mean, transform.std),
        ours.RandomShortSideScale(*short_sides),
        theirs.RandomCrop(transform.crop),
        theirs.RandomHorizontalFlip(transform.flip),
    ]
    return ours.ApplyTransformToKey("video", theirs.Compose(steps))


# -- per-view loading -------------------------------------------------------------------------------------------------


def one_view(path, first, span, place, clip, transform, decoder):
    """float clip_CTHW of one (clip, crop) of a test: opens the file, decodes this clip, converts, scales, crops.

    PySlowFast makes each of its test views so, with PyAV; with decord only the frames of the clip are read, which is
    faster. `first` and `span` in frames; `place` is the crop: 0 first, 1 centre, 2 last along the longer side.
    """
    read = {"pyav": window_pyav, "decord": window_decord}[decoder]
    frames_THWC = read(path, first, span, clip.frames)
    clip_CTHW = (frames_THWC.float() / 255 - torch.tensor(transform.mean)) / torch.tensor(transform.std)
    return crop(scale(clip_CTHW.permute(3, 0, 1, 2), transform.short_side), place, transform.crop)


def window_pyav(path, first, span, frames):
    """Decodes and converts every frame of the clip's time, of all the video where its header does not tell how long a
    frame is, and drops those between the frames of the clip afterwards.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.duration and stream.frames:
            per_frame, at = stream.duration / stream.frames, 0
            found = window(container, stream, int(first * per_frame), int((first + span - 1) * per_frame))
        else:
            found, at = list(container.decode(stream)), first
        images_THWC = torch.as_tensor(np.stack([frame.to_rgb().to_ndarray() for frame in found]))
    return images_THWC[torch.linspace(at, min(at + span, len(found)) - 1, frames).long()]


def window(container, stream, start, end):
    """The frames between two time stamps and one more, in the order of their time stamps."""
    container.seek(max(start - SEEK_MARGIN, 0), any_frame=False, backward=True, stream=stream)
    found = {}
    for frame in container.decode(stream):
        if frame.pts >= start:
            found[frame.pts] = frame
        if frame.pts > end:
            break
    return [found[time] for time in sorted(found)]


def window_decord(path, first, span, frames):
    video = decord.VideoReader(str(path), num_threads=1)
    last = min(first + span, len(video)) - 1
    images = video.get_batch(torch.linspace(first, last, frames).long().tolist())
    return torch.as_tensor(images if isinstance(images, torch.Tensor) else images.asnumpy())


def scale(clip_CTHW, short_side):
    height, width = clip_CTHW.shape[2:]
    ratio = short_side / min(height, width)
    size = (max(int(height * ratio), short_side), max(int(width * ratio), short_side))
    return F.interpolate(clip_CTHW, size, mode="bilinear", align_corners=False)


def crop(clip_CTHW, place, size):
    top, left = (-(-(length - size) // 2) for length in clip_CTHW.shape[2:])
    if clip_CTHW.shape[2] > clip_CTHW.shape[3]:
        top = (0, top, clip_CTHW.shape[2] - size)[place]
    else:
        left = (0, left, clip_CTHW.shape[3] - size)[place]
    return clip_CTHW[:, :, top : top + size, left : left + size]


def torchcodec_frames(path, device):
    """uint8 frames_THWC of a whole file by TorchCodec on a device."""
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(str(path), dimension_order="NHWC", device=device)[:].cpu().numpy()
