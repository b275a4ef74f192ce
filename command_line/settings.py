"""The settings of a run of train.py, and the presets that they come from."""

from dataclasses import asdict, dataclass, field, fields

from train import Settings
from utils import SIZES

MINUTES = dict(
    n_vocab=1024,
    n_ctx=128,
    n_embd=160,
    n_head=5,
    n_layer=4,
    batch_size=16,
    n_steps=2000,
    lr=3e-3,
    warmup=100,
    final_lr=0.0,
    weight_decay=0.1,
    beta_1=0.9,
    beta_2=0.95,
    clip=1.0,
    dropout=0.0,
    seed=0,
    sample="Once upon a time",
    dtype="float32",
    eval_every=250,
    save_every=250,
    log_every=10,
)
TALES = MINUTES | dict(
    n_vocab=2048,
    n_ctx=256,
    n_embd=256,
    n_head=4,
    batch_size=8,
    n_steps=8000,
    lr=1.5e-3,
    warmup=300,
    beta_2=0.99,
    dtype="float16",
    eval_every=500,
    log_every=20,
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


def flatten_settings(settings):
    """The flat dict that `nest_settings` takes."""
    options = asdict(settings)
    return options | options.pop("optimisation")
