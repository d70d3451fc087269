"""Read chosen frames by packets, so that the decoder can drop others.

Many codecs have frames that no other frame needs, such as most B-frames. FFmpeg drops the packets of these where
`skip_frame` is NONREF. Frames are then told apart by the packet that they come from, whose number takes the place of
its time stamp: that may be missing or be the time of decoding (AVI).
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import av
import numpy as np
from pydantic import Base64Encoder, EncodedBytes

Packed = Annotated[bytes, EncodedBytes(Base64Encoder)]  # as text in the manifest

# A seek costs about as much as decoding this many small frames.
MIN_SEEK_DISTANCE = 8
NO_FRAME = -(2**31)
EMPTY_PACKET = 16  # bytes of an MPEG-4 packet without a picture, at most
DROPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video")  # whose decoders do it, and are tested here


class PacketOrder(NamedTuple):
    """Hold what each packet P of a video stream, in the order of the file, gives."""

    frame_P: np.ndarray  # the number of its frame, -1 where none is its own
    before_P: np.ndarray  # how many packets before it are needed for its frame, besides what that refers to

    def pack(self) -> bytes:
        """Return it in few bytes: packets and frames are mostly in the same order."""
        ahead_P = np.where(self.frame_P >= 0, self.frame_P - np.arange(len(self.frame_P)), NO_FRAME)
        return zlib.compress(np.array([ahead_P, self.before_P], np.int32).tobytes(), 9)

    @classmethod
    def unpack(cls, packed: bytes) -> "PacketOrder":
        """Return what `pack` packed."""
        ahead_P, before_P = np.frombuffer(zlib.decompress(packed), np.int32).reshape(2, -1)
        return cls(np.maximum(ahead_P + np.arange(len(ahead_P)), -1), before_P)


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
    frame_P, before_P = np.full(len(sizes_P), -1), np.zeros(len(sizes_P), int)
    frame_P[packets_T] = np.arange(len(packets_T))
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
    for keyframe, wanted in plan_runs(indices, access.keyframes):
        left, some, found = wanted[::-1], set(wanted), {}
        for frame in _decode_run(container, stream, order, wanted, keyframe):
            number = -1 if frame.pts is None else int(order.frame_P[frame.pts])
            if number in some:
                found[number] = frame
            while left and left[-1] in found:
                yield found.pop(left.pop())
        if left:
            raise IndexError(f"the video ends before frame {left[-1]}")


def _decode_run(container, stream, order, wanted, keyframe):
    """Yield the frames from a keyframe or the start on, up to the last one that is wanted, or few more."""
    context, needed_P = stream.codec_context, _find_needed_packets(order, wanted)
    drop_P, is_dropping = (~needed_P & (order.frame_P >= 0)).tolist(), None
    last = int(np.flatnonzero(needed_P)[-1])
    for number, packet in _number_packets(container, stream, order, keyframe):
        packet.pts = number
        if drop_P[number] is not is_dropping:
            is_dropping = drop_P[number]
            context.skip_frame = "NONREF" if is_dropping else "DEFAULT"
        yield from context.decode(packet)
        if number == last:
            break
    yield from context.decode(None)


def _find_needed_packets(order, wanted):
    """Return for each packet whether it has a wanted frame, or is needed with one that has.

    A packet without a frame of its own may hold the second field of the frame before.
    """
    is_wanted_T = np.zeros(max(order.frame_P.max(), wanted[-1]) + 2, bool)  # the last is of packets without a frame
    is_wanted_T[wanted] = True
    needed_P = is_wanted_T[order.frame_P]
    for packet in np.flatnonzero(needed_P & (order.before_P > 0)):
        needed_P[packet - order.before_P[packet] : packet] = True
    for packet in np.flatnonzero(order.frame_P[1:] < 0) + 1:
        needed_P[packet] |= needed_P[packet - 1]
    return needed_P


def _number_packets(container, stream, order, keyframe):
    """Yield (number, packet) from a keyframe or the start on."""
    if keyframe is None:
        packets, first = container.demux(stream), 0
    else:
        index, time = keyframe
        container.seek(time, stream=stream)
        first = int(np.flatnonzero(order.frame_P == index)[0])
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
    else:
        raise IndexError("a seek ends behind the keyframe")
    yield from packets
