"""From lists of video files to batches of clips: index -> probe -> sampling -> decode -> transforms -> dataset."""
