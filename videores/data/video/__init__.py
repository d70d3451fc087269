"""Read, scan, write and re-encode one video file.

No other modules open videos.

pictures   folders of numbered pictures
readers    PyAV, decord and TorchCodec behind one signature
containers what the headers of a file promise, as FFmpeg does not tell it
encode     frames -> file
reencode   file -> small copy
sandbox    helper processes in which native code may crash
"""
