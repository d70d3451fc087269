"""Use a trained network: one predictor for files, streams, exported files and public weights.

preprocessing  from the frames of a video to clips, exactly as the test loop makes them
source         a run folder, a checkpoint, an exported file or public weights -> network, classes, preprocessing
windows        which frames make the windows of a video that is read from its first frame on
stream         a ring buffer of frames, each decoded and scaled once -> scored windows
predictor      Predictor: predict videos, stream frames
load           videores.load
segments       scored windows -> stretches of a video with one class, or with nothing
inputs         files, folders, patterns, pipes, cameras and addresses of a command line
outputs        JSON, CSV, the plot of a timeline, and videos with labels drawn in
export         a network as .pt2 or .onnx: program, description, comparison on real clips before the file has its name
exported       such a file read back; program_check refuses a .pt2 that could run code
folding, frames_network   batch norms within convolutions; preprocessing within the network
record         what is known of a run that has ended: results with their protocols, and where they are from
card, hub      the model card, made from the record; HubPredictor: save_pretrained, from_pretrained, push_to_hub
features       what a network's classifier or layer makes of videos; feature_files keeps it in features.npz
testing        how tools/evaluate.py tests a file or public weights; class_map maps their classes to the data's
"""
