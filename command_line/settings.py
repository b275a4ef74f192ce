"""The settings of a run of train.py, and the presets that they come from."""

import argparse
from dataclasses import asdict, dataclass, field, fields

from command_line.options import above_zero, below_one, whole, whole_or_zero, zero_or_more
from train import Settings
from utils import SIZES

FOLLOWING = ("n_seq", "micro_batch", "threads")  # their defaults follow from other settings
MINUTES = {name: value for name, value in asdict(Settings()).items() if name not in FOLLOWING}
MINUTES |= dict(
    n_vocab=1024,
    n_ctx=128,
    n_embd=160,
    n_head=5,
    n_layer=4,
    sample="Once upon a time",
    dtype="float32",
    eval_every=250,
    save_every=250,
    log_every=10,
)
TALES = MINUTES | dict(
    n_vocab=2048,
    n_ctx=256,
    n_embd=216,
    n_head=4,
    n_layer=6,
    batch_size=8,
    n_steps=40000,
    optimizer="muon",
    lr=1.5e-3,
    warmup=500,
    beta_2=0.99,
    dropout=0.05,
    dtype="float16",
    eval_every=1000,
    log_every=100,
)
TUNE = {name: value for name, value in MINUTES.items() if name not in SIZES} | dict(
    batch_size=8,
    n_steps=200,
    lr=3e-4,
    warmup=20,
    dropout=0.1,
    eval_every=50,
    save_every=100,
)
PRESETS = {"minutes": MINUTES, "tales": TALES, "tune": TUNE}

NUMBERS = dict.fromkeys(SIZES, whole) | dict(  # what a number may be, on the command line and later
    n_seq=whole,
    batch_size=whole,
    n_steps=whole,
    lr=above_zero,
    muon_lr=above_zero,
    warmup=whole_or_zero,
    final_lr=zero_or_more,
    weight_decay=zero_or_more,
    beta_1=below_one,
    beta_2=below_one,
    clip=above_zero,
    dropout=below_one,
    seed=whole_or_zero,
    eval_every=whole,
    save_every=whole,
    log_every=whole,
    threads=whole,
    micro_batch=whole,
)
CHOICES = {"dtype": ("float32", "float16"), "optimizer": ("adamw", "muon")}
# What only concerns running, or how long: a run that goes on may change it.
CHANGEABLE = (
    "n_steps",
    "eval_every",
    "save_every",
    "log_every",
    "sample",
    "threads",
    "keep_best",
    "dtype",
)


@dataclass
class RunSettings:
    """What a run is: where its text comes from and its model goes, the model's sizes, what happens
    on the way; and, in `optimisation`, what `train` needs."""

    corpus: str  # the text's path, absolute
    out: str  # the model's folder
    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_layer: int
    val: str | None = None  # the held-out text's path; None: the end of the corpus
    preset: str | None = None  # these three as they were given
    init_from: str | None = None
    vocab_from: str | None = None
    dtype: str = MINUTES["dtype"]  # of the weights on disk
    sample: str = MINUTES["sample"]  # the prompt of the samples
    eval_every: int = MINUTES["eval_every"]  # steps
    save_every: int = MINUTES["save_every"]
    log_every: int = MINUTES["log_every"]
    keep_best: bool = False  # whether the model of the lowest held-out loss is kept, too
    sha256: list = field(default_factory=list)  # of the text and the held-out text
    optimisation: Settings = field(default_factory=Settings)

    @property
    def hparams(self):
        """The model's sizes, as in hparams.json."""
        return {name: getattr(self, name) for name in SIZES}

    @property
    def tokens_per_step(self):
        """How many tokens of text a step reads."""
        return self.optimisation.batch_size * self.optimisation.n_seq


def nest_settings(options):
    """The RunSettings of a flat dict of options; what is in it besides is left out."""
    of_run = {f.name: options[f.name] for f in fields(RunSettings) if f.name in options}
    of_train = {f.name: options[f.name] for f in fields(Settings) if f.name in options}
    return RunSettings(**of_run, optimisation=Settings(**of_train))


def check_settings(options):
    """ValueError that names the first of a flat dict of options that no run can have."""
    for kind in (RunSettings, Settings):
        for f in fields(kind):
            if f.name in options and not is_possible(f, options[f.name]):
                raise ValueError(f"the setting {f.name} is {options[f.name]!r:.40}")


def is_possible(setting, value):
    """Whether a field of the settings may have this value."""
    if setting.name in NUMBERS:
        if type(value) not in (int, float):  # bool is an int, too
            return False
        try:
            NUMBERS[setting.name](str(value))
        except (ValueError, argparse.ArgumentTypeError):
            return False
        return True
    if setting.name in CHOICES:
        return value in CHOICES[setting.name]
    if setting.name == "sha256":
        return isinstance(value, list) and [type(digest) for digest in value] == [str, str]
    return isinstance(value, setting.type)


def flatten_settings(settings):
    """The flat dict that `nest_settings` takes."""
    options = asdict(settings)
    return options | options.pop("optimisation")
