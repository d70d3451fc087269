"""The state of Lightning's loops: what it says of a run, and changes to it that Lightning itself cannot make.

`loops` is the "fit_loop" of a checkpoint: for each loop how many of its rounds were ready (fetched), started,
processed and completed (their hooks were called), in total and currently, that is, in this epoch.
"""

EPOCHS, BATCHES, VALIDATION = "epoch_progress", "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"


def before_validation(loops):
    """Makes a state from within a validation one from its beginning: Lightning counts the batches that were scored, but
    the scores are not kept. It takes up a validation whose first batch was begun."""
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops[VALIDATION] |= {"total": begun, "current": begun, "is_last_batch": False}


def whole_epochs(loops):
    """How many epochs were trained to their ends."""
    return loops[EPOCHS]["current"]["processed"]


def begin_epoch_again(loops):
    """Makes a state from within an epoch one from its beginning. Returns the number of the epoch."""
    epoch, total = whole_epochs(loops), loops[BATCHES]["total"]["processed"]
    alike = lambda number: dict.fromkeys(("ready", "started", "processed", "completed"), number)
    loops[EPOCHS] |= {"total": alike(epoch), "current": alike(epoch)}
    loops[BATCHES] |= {"total": alike(total), "current": alike(0), "is_last_batch": False}
    return epoch
