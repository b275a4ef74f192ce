"""A run before its next step: what is refused, what is said, where the weights come from."""

import re

import numpy as np
import pytest
from programs import TINY, make_options, read_log, run_refused, run_train

from command_line import prepare
from command_line.train import parse_arguments
from encoder import Encoder, get_encoder, save_encoder, train_bpe
from utils import SIZES, load_encoder_hparams_and_params, n_parameters


def test_the_vocabulary_is_learned_from_the_training_part_only(trained, story):
    text = story.read_text()
    cut = text.index("\n", len(text) - len(text) // 20)
    assert get_encoder(trained).bpe_merges == train_bpe(text[:cut], 300).bpe_merges


def test_what_is_about_to_happen_is_said_before_the_first_step(story, tmp_path, capsys):
    assert run_train(story, "--out", tmp_path / "m", *make_options(n_steps=1)) == 0
    error = capsys.readouterr().err
    before = error.partition("step 0 of 1")[0]
    assert "4 × 16 = 64 tokens a step" in before
    assert re.search(r"[\d,.]+ steps an epoch", before)
    assert re.search(r"memory: about [\d.]+ MB", before)
    assert f"{n_parameters({n: TINY[n] for n in SIZES}):,} parameters" in before
    assert "bits per byte" in error and "the king" in error
    assert capsys.readouterr().out == ""


def test_fine_tuning_begins_with_the_models_weights_and_vocabulary(story, trained, tmp_path):
    folder = tmp_path / "tuned"
    sizes = dict.fromkeys(SIZES)
    assert (
        run_train(
            story,
            "--out",
            folder,
            "--init-from",
            trained,
            *make_options(**sizes, n_steps=2, eval_every=1),
        )
        == 0
    )
    before, after = read_log(trained)[-1], read_log(folder)[0]
    assert after["step"] == 0 and abs(before["val_loss"] - after["val_loss"]) < 1e-4
    assert get_encoder(folder).encoder == get_encoder(trained).encoder
    assert read_log(folder)[-1]["val_loss"] < after["val_loss"]


def test_fine_tuning_on_shorter_sequences_keeps_the_whole_context(story, trained, tmp_path):
    folder = tmp_path / "tuned"
    sizes = dict.fromkeys(SIZES)
    assert (
        run_train(
            story,
            "--out",
            folder,
            "--init-from",
            trained,
            "--n-seq",
            8,
            *make_options(**sizes, n_steps=3, dropout=0.0, weight_decay=0.0),
        )
        == 0
    )
    _, hparams, params = load_encoder_hparams_and_params(folder)
    before = load_encoder_hparams_and_params(trained)[2]
    assert hparams["n_ctx"] == 16
    assert np.array_equal(params["wpe"][8:], before["wpe"][8:])
    assert not np.array_equal(params["wpe"][:8], before["wpe"][:8])


def test_documents_are_separated_by_the_one_token(story, tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("<|endoftext|>".join([story.read_text()[:4000]] * 3))
    given = parse_arguments([str(path), "--out", str(tmp_path / "m"), *make_options(n_vocab=280)])
    _, corpus, _ = prepare.begin_run(given)
    assert list(corpus.train).count(corpus.encoder.eot) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"caf\xe9 au lait", "not UTF-8 from byte 3"),
        (b"the king " * 3, "too few|not enough|allows"),
        (b"a king " * 1000, "n_vocab=300: the text allows"),
        (None, "No such file"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_refused_before_any_work(
    tmp_path, capsys, content, words
):
    path, folder = tmp_path / "text.txt", tmp_path / "m"
    if content is not None:
        path.write_bytes(content)
    line = run_refused(capsys, path, "--out", folder, *make_options())
    assert re.search(words, line) and (str(path) in line or "n_vocab" in line)
    assert not folder.exists()


def test_a_text_shorter_than_one_context_is_refused(story, tmp_path, capsys):
    line = run_refused(capsys, story, "--out", tmp_path / "m", *make_options(n_ctx=10**4))
    assert "single context of 10000" in line and "--n-ctx" in line and str(story) in line
    short = tmp_path / "short.txt"
    short.write_text(story.read_text()[:500])
    line = run_refused(
        capsys, story, "--val", tmp_path / "none.txt", "--out", tmp_path / "m", *make_options()
    )
    assert "none.txt" in line
    short.write_text("a")
    line = run_refused(capsys, story, "--val", short, "--out", tmp_path / "m", *make_options())
    assert "held-out" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--n-embd", 15], "cannot be divided"),
        (["--n-seq", 17], "more than the model's context"),
        (["--n-seq", 15], "untrained; give --n-ctx 15"),
        (["--out", "x" * 300], "cannot write to x+: "),
        (
            ["--vocab-from", "TRAINED", "--n-vocab", 299],
            "--n-vocab 299 does not fit .*which has 300",
        ),
        (["--init-from", "TRAINED", "--n-layer", 3], "--n-layer 3 does not fit .*which has 2"),
        (["--init-from", "TRAINED", "--vocab-from", "OTHER"], "does not fit the model"),
        (["--init-from", "TRAINED", "--vocab-from", "REORDERED"], "does not fit the model"),
        (["--init-from", "nowhere"], "no model 'nowhere'"),
        (["--vocab-from", "nowhere"], "nowhere"),
        (["--out", "TRAINED"], "already holds a model.*--resume"),
        (["--out", "STORY"], "cannot write to"),
        (["--n-embd", 2**20], "memory"),
    ],
)
def test_what_does_not_fit_together_is_refused(story, trained, tmp_path, capsys, more, words):
    save_encoder(train_bpe(story.read_text(), 290), tmp_path / "other")
    same = get_encoder(trained)  # the same tokens, two of them merged in the other order
    first, second, *rest = same.bpe_merges
    save_encoder(Encoder(same.encoder, [second, first, *rest]), tmp_path / "reordered")
    names = {
        "TRAINED": trained,
        "OTHER": tmp_path / "other",
        "STORY": story,
        "REORDERED": tmp_path / "reordered",
    }
    more = [names.get(part, part) for part in more]
    sized = "--init-from" in more or "--vocab-from" in more
    base = make_options(**dict.fromkeys(SIZES)) if sized else make_options()
    if "--n-embd" in more:  # before anything is allocated
        base = make_options(n_head=None, n_embd=None, n_layer=2)
        more += ["--n-head", 2]
    code = run_train(story, "--out", tmp_path / "m", *base, *more)
    line = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and line.startswith("train.py: ") and re.search(words, line), line


def test_resume_refuses_what_is_not_its_run(story, trained, tmp_path, capsys):
    assert "is not there" in run_refused(capsys, "--resume", tmp_path)
    assert "is complete, at step 8" in run_refused(capsys, "--resume", trained)


@pytest.fixture
def interrupted(story, trained, tmp_path):
    """A copy of the folder `trained`, as if a step were missing."""
    import json
    import shutil

    folder = tmp_path / "interrupted"
    shutil.copytree(trained, folder)
    state = dict(np.load(folder / "training.npz"))
    about = json.loads(str(state["about"]))
    about["step"] -= 1
    np.savez(folder / "training.npz", **(state | {"about": json.dumps(about)}))
    return folder


def test_resume_wants_the_same_text_wherever_it_is(story, interrupted, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text(story.read_text() + "One line more.\n")
    line = run_refused(capsys, other, "--resume", interrupted)
    assert f"the text in {other} is not the one that the run in {interrupted}" in line
    line = run_refused(capsys, "--resume", interrupted, "--val", other)
    assert f"the text in {other} is not the one" in line or f"the text in {story} is not" in line
    moved = tmp_path / "moved.txt"
    moved.write_bytes(story.read_bytes())
    assert run_train(moved, "--out", interrupted, *make_options(), "--resume") == 0


def test_resume_says_that_the_text_is_gone(trained, interrupted, capsys):
    import json

    state = dict(np.load(interrupted / "training.npz"))
    about = json.loads(str(state["about"]))
    about["settings"]["corpus"] = "/no/such/text"
    np.savez(interrupted / "training.npz", **(state | {"about": json.dumps(about)}))
    line = run_refused(capsys, "--resume", interrupted)
    assert (
        f"no longer in /no/such/text; say where it is: python train.py TEXT --resume {interrupted}"
        in line
    )


@pytest.mark.parametrize(
    "option", ["--lr 0.5", "--n-layer 3", "--preset tales", "--init-from tales"]
)
def test_resume_keeps_the_settings_that_the_run_began_with(interrupted, capsys, option):
    line = run_refused(capsys, "--resume", interrupted, *option.split())
    assert f"{option} is not what the run in {interrupted} began with" in line


def test_resume_changes_the_dtype(interrupted):
    from tf_checkpoint import read_checkpoint

    assert run_train("--resume", interrupted, "--dtype", "float16", "--lr", "0.003") == 0
    tensors = read_checkpoint(interrupted / "model.ckpt")
    assert all(array.dtype == np.float16 for array in tensors.values())


def test_too_little_memory_is_refused_and_scarce_memory_said(story, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "memory", lambda: (10**8, 10**8))
    assert run_train(story, "--out", tmp_path / "m", "--threads", 2, *make_options()) == 1
    assert "needs 190.9 MB of memory" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(prepare, "memory", lambda: (10**10, 10**8))
    assert run_train(story, "--out", tmp_path / "m", *make_options(n_steps=1)) == 0
    assert "only 100.0 MB" in capsys.readouterr().err


def prepare_settings(story, tmp_path, *arguments):
    given = parse_arguments([str(story), "--out", str(tmp_path / "m"), *arguments])
    return prepare.begin_run(given)[0]


def test_options_that_depend_on_others_follow_them(story, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "count_cores", lambda: 4)
    small = ["--n-vocab", "300", "--n-ctx", "64", "--n-embd", "10"]
    settings = prepare_settings(story, tmp_path, *small)
    s = settings.optimisation
    assert (s.n_steps, s.warmup, s.threads, s.n_seq, s.micro_batch) == (2000, 100, 4, 64, 4)
    s = prepare_settings(
        story, tmp_path, *small, "--n-steps", "70", "--batch-size", "3"
    ).optimisation
    assert (s.n_steps, s.warmup, s.threads, s.micro_batch) == (70, 7, 3, 1)
    s = prepare_settings(story, tmp_path, *small, "--warmup", "80", "--n-steps", "70").optimisation
    assert s.warmup == 80
    s = prepare_settings(
        story, tmp_path, *small, "--threads", "2", "--micro-batch", "6"
    ).optimisation
    assert (s.threads, s.micro_batch) == (2, 6)
