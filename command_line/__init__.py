"""The terminal: what `python gpt2_numpy.py` and `python train.py` do.

generate.py    the options of gpt2_numpy.py, and what is done with them
stream.py      a prompt and its continuation, written token by token
explain.py     tokens, and what the model chose from (--show-tokens, --explain)
score.py       the log-probability of each token (--score)

train.py       the options of train.py, and what is done with them
settings.py    the settings of a run, and the presets
prepare.py     a run that begins, or one that goes on
run.py         its way to the last step
corpus.py      the text to train on and the held-out one
run_state.py   the state of a run on disk
log.py         log.jsonl
progress.py    the progress bar, and the lines above it
signals.py     Ctrl-C and its like while training

launch.py      from the first import to the exit status
options.py     the parser that both programs use
errors.py      how both end when something is wrong
version.py     what --version says
process.py     this process: threads of BLAS, cores, memory
pace.py        how many threads BLAS should have just now
"""

import sys

VERSION = "1.0.0"
OURS = "backward command_line encoder files gpt2_numpy look_inside train utils".split()


def start(program):
    """Run "generate" or "train" from this folder; return its exit status."""
    try:
        forget_namesakes()
        from command_line.launch import launch

        return launch(program)
    except KeyboardInterrupt:
        from command_line.errors import report_stop

        return report_stop()


def forget_namesakes():
    """Have our modules imported from our folder even if a .pth file or sitecustomize has imported
    others of the same names when Python started."""
    for name in list(sys.modules):
        if name != __name__ and name.partition(".")[0] in OURS:
            del sys.modules[name]
