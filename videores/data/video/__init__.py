"""One video file: read, scanned, written and re-encoded; the only modules that open videos.

readers    PyAV, decord and TorchCodec behind one signature
encode     frames -> file
reencode   file -> small copy
sandbox    helper processes in which native code may crash
"""
