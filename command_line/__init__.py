"""The terminal: what `python gpt2_numpy.py` and `python train.py` do.

generate.py    the options of gpt2_numpy.py, and what is done with them
stream.py      a prompt and its continuation, written token by token
explain.py     tokens, and what the model chose from (--show-tokens, --explain)
score.py       the log-probability of each token (--score)
models.py      the models that are here (--list)

train.py       the options of train.py, and what is done with them
settings.py    the settings of a run, and the presets
prepare.py     a run that begins, or one that goes on
run.py         its way to the last step
corpus.py      the text to train on and the held-out one
run_state.py   the state of a run on disk
run_folder.py  its folder: one run at a time
best.py        the model with the lowest held-out loss
divergence.py  what to do after a run has diverged
log.py         log.jsonl
progress.py    the progress bar, and the lines above it
signals.py     Ctrl-C and its like while training

options.py     the parser that both programs use
errors.py      how both end when something is wrong
process.py     this process: threads of BLAS, cores, memory
pace.py        how many threads BLAS should have just now
"""

import importlib

from command_line.errors import describe_import_error, fail, report_stop, survive_closed_stderr

PROGRAMS = {"generate": "gpt2_numpy.py", "train": "train.py"}
PACKAGES = {"generate": ("numpy", "regex"), "train": ("numpy", "regex", "tqdm")}


def start(program):
    """Run "generate" or "train" from this folder; return its exit status.

    What it needs is imported here, so that a package that is missing or broken is one line.
    """
    survive_closed_stderr()
    try:
        for package in PACKAGES[program]:
            try:
                importlib.import_module(package)
            except Exception as error:  # a broken package raises whatever it likes
                return fail(PROGRAMS[program], describe_import_error(error, package))
        main = importlib.import_module(f"command_line.{program}").main
    except KeyboardInterrupt:
        return report_stop()
    return main()
