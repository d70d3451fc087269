"""Evaluate scores exactly: pure functions from logits of views to numbers, without Lightning.

fusion        scores of a video's views -> scores of the video
metrics       scores -> top-k accuracy, class accuracies, calibration, bootstrap intervals
accumulator   scores of views from batches and ranks, each exactly once
protocol      the string that says which views of which videos a number is about
predictions   saved scores, read and checked
view_subset   saved scores of fewer views
offline       other fusions, view sweeps, ensembles and comparisons from saved scores
neighbors     features -> kNN accuracy and retrieval, never within a group
probe         features -> accuracy of a linear classifier
suspects      labels that the scores of other videos' networks speak against
"""
