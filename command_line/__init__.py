"""The terminal: what `python gpt2_numpy.py` and `python train.py` do.

generate.py      the options of gpt2_numpy.py, and where they lead
answer.py        what is done with prompts, one or many
stream.py        a prompt and its continuation, written token by token
continuation.py  what follows a prompt as it grows, and where it ends
side_by_side.py  many prompts of different lengths at a time
prompts.py       prompts from a file or standard input (--prompts)
interactive.py   each line typed is a prompt (-i)
records.py       results as JSON (--json)
explain.py       tokens, and what the model chose from (--show-tokens, --explain)
score.py         how probable texts are (--score)
models.py        the models that are here (--list)

train.py         the options of train.py, and what is done with them
settings.py      the settings of a run, and the presets
prepare.py       a run that begins, or one that goes on
run.py           its way to the last step
corpus.py        the text to train on and the held-out one
run_state.py     the state of a run on disk
run_folder.py    its folder: one run at a time
best.py          the model with the lowest held-out loss
divergence.py    what to do after a run has diverged
log.py           log.jsonl
progress.py      the progress bar, and the lines above it
signals.py       Ctrl-C and its like while training

explore.py       what `python -m explorer` does: a prompt on its way through the code
convert.py       what `python -m files.convert` does: a model as another kind of folder

launch.py        from the first import to the exit status
options.py       the parser that both programs use
errors.py        how both end when something is wrong
version.py       what --version says
process.py       this process: threads of BLAS, cores, memory
pace.py          how many threads BLAS should have just now
"""

import sys

VERSION = "1.0.0"
OURS = (
    "backward command_line encoder explorer files gpt2_numpy look_inside stacks train utils".split()
)


def start(program):
    """Run "generate", "train", "convert" or "explore" from this folder; return its exit status."""
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
