"""Read, scan, write and re-encode one video file.

No other modules open videos.

containers what the headers of a file promise, as FFmpeg does not tell it
opening    files as FFmpeg's containers, their complaints, limits
convert    decoded frames -> RGB as it is shown
pictures   folders of numbered pictures
scan       the truth: one sequential decode
packets    chosen frames by packets, with others dropped
trials     which readers return a file exactly
readers    PyAV, decord and TorchCodec behind one signature
encode     frames -> file
reencode   file -> small copy
sandbox    helper processes in which native code may crash
"""
