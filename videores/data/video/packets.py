"""Read chosen frames by packets, so that the decoder can drop others.

Many codecs have frames that no other frame needs, such as most B-frames. FFmpeg drops the packets of these where
`skip_frame` is NONREF. Frames are then told apart by the packet that they come from, as time stamps may be missing or
be those of decoding (AVI).
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np

# A seek costs about as much as decoding this many small frames.
MIN_SEEK_DISTANCE = 8
NO_FRAME = -(2**31)
EMPTY_PACKET = 16  # bytes of an MPEG-4 packet without a picture, at most
DROPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video")  # whose decoders do it, and are tested here


class PacketOrder(NamedTuple):
    """Hold what each packet P of a video stream, in the order of the file, gives."""

    frame_P: list[int]  # the number of its frame, -1 where none is its own
    before_P: list[int]  # how many packets before it are needed for its frame, besides what that refers to

    def pack(self) -> bytes:
        """Return it in few bytes: packets and frames are mostly in the same order."""
        ahead_P = [frame - packet if frame >= 0 else NO_FRAME for packet, frame in enumerate(self.frame_P)]
        return zlib.compress(np.array([ahead_P, self.before_P], np.int32).tobytes(), 9)

    @classmethod
    def unpack(cls, packed: bytes) -> "PacketOrder":
        """Return what `pack` packed."""
        ahead_P, before_P = np.frombuffer(zlib.decompress(packed), np.int32).reshape(2, -1)
        return cls(np.maximum(ahead_P + np.arange(len(ahead_P)), -1).tolist(), before_P.tolist())


class Access(NamedTuple):
    """Hold how PyAV may read a file other than from its start, frame by frame."""

    keyframes: Sequence[tuple[int, int]] = ()  # (frame, time stamp) to seek by
    packet_order: bytes = b""  # packed; none where no frame is to be dropped


def order_packets(
    packets_T: Sequence[int], sizes_P: Sequence[int], checksums_T: Sequence[int], codec: str
) -> PacketOrder:
    """Return the order of packets of given bytes, in which each frame T comes from the packet with that number.

    MPEG-4 has empty packets that repeat the picture before, or whose frame is in the packet before.
    """
    frame_P, before_P = [-1] * len(sizes_P), [0] * len(sizes_P)
    for frame, packet in enumerate(packets_T):
        frame_P[packet] = frame
    for packet in range(1, len(sizes_P) if codec == "mpeg4" else 0):
        one, other = frame_P[packet - 1 : packet + 1]
        repeats = min(one, other) >= 0 and checksums_T[one] == checksums_T[other]
        if repeats or sizes_P[packet] <= EMPTY_PACKET:
            before_P[packet] = 1 + (before_P[packet - 1] if repeats else 0)
    return PacketOrder(frame_P, before_P)


def plan_runs(
    indices: Sequence[int], keyframes: Sequence[tuple[int, int]]
) -> list[tuple[tuple[int, int] | None, list[int]]]:
    """Split ascending frame numbers into runs, each from a keyframe on; the first may be from the start, None."""
    runs: list[tuple[tuple[int, int] | None, list[int]]] = []
    starts, position = [index for index, _ in keyframes], 0
    for index in map(int, indices):
        key = bisect_right(starts, index) - 1
        if key >= 0 and starts[key] - position >= MIN_SEEK_DISTANCE:
            runs.append((keyframes[key], []))
        elif not runs:
            runs.append((None, []))
        runs[-1][1].append(index)
        position = index + 1
    return runs


def decode_by_packets(
    container: av.container.InputContainer, stream: av.VideoStream, indices: Sequence[int], access: Access
) -> Iterator[av.VideoFrame]:
    """Yield frames in ascending order; drop those that neither are asked for nor needed for others.

    Raises IndexError where one is not there.
    """
    order = PacketOrder.unpack(access.packet_order)
    stream.codec_context.copy_opaque = True
    for keyframe, wanted in plan_runs(indices, access.keyframes):
        left, some, found = wanted[::-1], set(wanted), {}
        for frame in _decode_run(container, stream, order, wanted, keyframe):
            number = -1 if frame.opaque is None else order.frame_P[frame.opaque]
            if number in some:
                found[number] = frame
            while left and left[-1] in found:
                yield found.pop(left.pop())
        if left:
            raise IndexError(f"the video ends before frame {left[-1]}")


def _decode_run(container, stream, order, wanted, keyframe):
    """Yield the frames from a keyframe or the start on, up to the last one that is wanted, or few more."""
    context, needed = stream.codec_context, _find_needed_packets(order, wanted)
    last, is_dropping = max(needed), None
    for number, packet in _number_packets(container, stream, order, keyframe):
        packet.opaque = number
        may_drop = number not in needed and order.frame_P[number] >= 0
        if may_drop is not is_dropping:
            context.skip_frame, is_dropping = "NONREF" if may_drop else "DEFAULT", may_drop
        yield from context.decode(packet)
        if number == last:
            break
    yield from context.decode(None)


def _find_needed_packets(order, wanted):
    """Return the packets of wanted frames, and those that are needed with them.

    A packet without a frame of its own may hold the second field of the frame before.
    """
    some, needed = set(wanted), set()
    for packet, (frame, before) in enumerate(zip(order.frame_P, order.before_P, strict=True)):
        if frame in some:
            needed.update(range(packet - before, packet + 1))
        elif frame < 0 and packet - 1 in needed:
            needed.add(packet)
    return needed


def _number_packets(container, stream, order, keyframe):
    """Yield (number, packet) from a keyframe or the start on."""
    if keyframe is None:
        packets, first = container.demux(stream), 0
    else:
        index, time = keyframe
        container.seek(time, stream=stream)
        first = order.frame_P.index(index)
        packets = _skip_to_keyframe(container.demux(stream), time)
    for number, packet in enumerate((packet for packet in packets if packet.size), first):
        if number >= len(order.frame_P):
            raise IndexError("there are more packets than there were")
        yield number, packet


def _skip_to_keyframe(packets, time):
    for packet in packets:
        if packet.pts == time:
            yield packet
            break
    yield from packets
