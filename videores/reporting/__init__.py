"""Write what a run found: results, pictures and pages, from scores and files alone.

results        the files of a test, and its last lines on the screen
plots          curves, confusion matrix, view sweep, differences by class
page           one HTML page of a run (template page.html), with contact_sheet for frames
zoo            page and CSV file of trained networks, from the records that zoo_entries keeps of runs
features       what features are worth (tools/features.py): embedding draws them, neighbors writes their page
html           templates of pages, and pictures within them
rescoring      `tools/evaluate.py --scores`: re-score, fuse and compare saved predictions
"""
