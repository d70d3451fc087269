"""Turn lists of videos into batches.

lists, formats, mirroring, splits, index   which videos there are, and which of them are held out
shards                                     videos in tar files, in a folder or behind a URL
video, probe, manifest, decode             what is in a file, and its frames by number, exactly
sampling, transforms, augment, views       frames -> clips; corruptions for probing, mixing on the device
pretext                                    tasks without labels: how the frames of a clip were changed
cache, samplers, dataset, workers          clips -> batches
datamodule                                 all of it for one configuration, and the policy for videos that do not decode
synthetic, prepare                         embedded data sets; surveys and copies for tools/prepare.py
"""
