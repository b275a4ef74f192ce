"""A run before its next step: what is refused, what is said, where the weights come from."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train
from command_line import prepare
from command_line.run_state import load
from command_line.train import parse_arguments
from encoder import Encoder, get_encoder, train_bpe
from programs import ENVIRONMENT, ROOT, TINY, make_options, read_log, run_refused, run_train
from train import learning_rate
from utils import SIZES, leaves, load_encoder_hparams_and_params, n_parameters, save_encoder


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


@pytest.mark.parametrize("name", ["plain", "old"])
def test_vocabulary_and_weights_may_come_from_a_folder_of_hugging_faces(story, tmp_path, name):
    source = Path(__file__).parent / "fixtures" / "huggingface" / name
    encoder, hparams, params = load_encoder_hparams_and_params(source)
    sizes = dict.fromkeys(SIZES)
    begin = [story, "--out", tmp_path / "a", "--init-from", source]
    options = make_options(**sizes, n_steps=1, lr=1e-30, weight_decay=0.0)
    assert run_train(*begin, *options) == 0
    found = load_encoder_hparams_and_params(tmp_path / "a")
    assert found[0].encoder == encoder.encoder and found[1] == hparams
    assert all(map(np.array_equal, leaves(found[2]), leaves(params)))
    begin = [story, "--out", tmp_path / "b", "--vocab-from", source]
    assert run_train(*begin, *make_options(n_vocab=None, n_steps=1)) == 0
    found = load_encoder_hparams_and_params(tmp_path / "b")
    assert found[0].bpe_merges == encoder.bpe_merges


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
        (b"a king " * 1000, "--n-vocab 300: the text allows"),
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
    assert re.search(words, line) and (str(path) in line or "n-vocab" in line)
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
        (["--vocab-from", "nowhere"], "nowhere/encoder.json: No such file.*; give --vocab-from a"),
        (["--out", "TRAINED"], "already holds a model.*--resume"),
        (["--out", "STORY"], "cannot write to .*: File exists; give another folder"),
        (["--val", "nowhere"], "nowhere: No such file or directory; give --val the path of a text"),
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
    about["step"], about["evaluated"] = about["step"] - 1, 4
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
    "option",
    ["--lr 0.5", "--n-layer 3", "--preset tales", "--init-from tales", "--micro-batch 3"],
)
def test_resume_keeps_the_settings_that_the_run_began_with(interrupted, capsys, option):
    line = run_refused(capsys, "--resume", interrupted, *option.split())
    assert f"{option} is not what the run in {interrupted} began with" in line


def test_resume_changes_the_dtype(interrupted):
    from files.tf_checkpoint import read_checkpoint

    assert run_train("--resume", interrupted, "--dtype", "float16", "--lr", "0.003") == 0
    tensors = read_checkpoint(interrupted / "model.ckpt")
    assert all(array.dtype == np.float16 for array in tensors.values())


def test_a_run_that_is_extended_is_the_longer_run_from_there_on(story, trained, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "m")
    settings, _, state = load(folder)
    assert run_train("--resume", folder, "--n-steps", 14) == 0
    longer = replace(settings.optimisation, n_steps=14)
    rates = [
        learning_rate(step, n, longer.lr, longer.warmup, longer.final_lr)
        for step, n in ((8, 14), (7, 8))
    ]
    assert (
        "14 steps instead of 8: from here on the learning rate is that of a run of 14, "
        f"{rates[0]:.3g} in step 9; it was {rates[1]:.3g} in step 8\n" in capsys.readouterr().err
    )
    text = story.read_text()
    held_out = text.index("\n", len(text) - len(text) // 20)
    ids = get_encoder(folder).encode(text[:held_out])
    steps = list(train.train(state.params, ids, 2, longer, state.moments, 8))
    assert [step.number for step in steps] == [9, 10, 11, 12, 13, 14]
    found_settings, _, found = load(folder)
    assert found_settings.optimisation == longer and found.step == 14
    for tree, exact in ((found.params, state.params), (found.moments, state.moments)):
        for array, wanted in zip(leaves(tree), leaves(exact), strict=True):
            assert np.array_equal(array, wanted)
    logged = [line for line in read_log(folder, key="norm") if line["step"] > 8]
    assert [line["lr"] for line in logged] == [float(f"{step.lr:.6g}") for step in steps[1::2]]


def test_a_run_can_be_cut_short_but_not_before_where_it_is(interrupted, capsys):
    line = run_refused(capsys, "--resume", interrupted, "--n-steps", 7)
    assert "--n-steps 7: the run in" in line and "has taken 7 steps; give a higher number" in line
    assert run_train("--resume", interrupted, "--n-steps", 8) == 0
    assert "instead of" not in capsys.readouterr().err


def test_a_shorter_run_ends_where_it_is_told_to(story, tmp_path, capsys, monkeypatch):
    folder, batch = tmp_path / "m", train.batch

    def interrupted(ids, n_seq, n_batch, step, seed):
        if step == 4:
            raise KeyboardInterrupt
        return batch(ids, n_seq, n_batch, step, seed)

    with monkeypatch.context() as patch:
        patch.setattr(train, "batch", interrupted)
        assert run_train(story, "--out", folder, *make_options(n_steps=100)) == 130
    assert run_train("--resume", folder, "--n-steps", 5) == 0
    assert "5 steps instead of 100" in capsys.readouterr().err
    assert load(folder)[2].step == 5


def test_what_only_concerns_running_may_change(interrupted, capsys):
    changes = dict(eval_every=2, save_every=5, log_every=1, sample="a bird")
    options = [part for n, v in changes.items() for part in (f"--{n.replace('_', '-')}", v)]
    assert run_train("--resume", interrupted, "--keep-best", *options) == 0
    settings = load(interrupted)[0]
    assert {name: getattr(settings, name) for name in changes} == changes and settings.keep_best
    assert "a bird" in capsys.readouterr().err
    assert (interrupted / "best" / "best.json").exists()


@pytest.mark.parametrize(
    ("threads", "micro_batch", "is_said"),
    [(1, 1, True), (2, 1, False), (9, 1, True), (1, 4, False)],
)
def test_threads_that_change_the_order_of_sums_are_said(
    story, tmp_path, capsys, monkeypatch, threads, micro_batch, is_said
):
    folder, batch = tmp_path / "m", train.batch

    def interrupted(ids, n_seq, n_batch, step, seed):
        if step == 4:
            raise KeyboardInterrupt
        return batch(ids, n_seq, n_batch, step, seed)

    options = make_options(threads=2, micro_batch=micro_batch, batch_size=4)
    with monkeypatch.context() as patch:
        patch.setattr(train, "batch", interrupted)
        assert run_train(story, "--out", folder, *options) == 130
    capsys.readouterr()
    assert run_train("--resume", folder, "--threads", threads) == 0
    said = f"--threads {min(threads, 4)} instead of 2: gradients are added up in another order"
    assert (said in capsys.readouterr().err) == is_said
    assert load(folder)[0].optimisation.threads == min(threads, 4)


def test_the_warm_up_and_the_peak_are_said_before_the_first_step(story, tmp_path, capsys):
    options = make_options(n_steps=30, warmup=None, lr=0.01, final_lr=0.002)
    assert run_train(story, "--out", tmp_path / "m", *options) == 0
    before = capsys.readouterr().err.partition("step 0 of 30")[0]
    line = "learning rate: up to 0.01 in 3 steps, then down to 0.002 along a cosine"
    assert line in before.splitlines()


def test_too_little_memory_is_refused_and_scarce_memory_said(story, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "measure_resident", lambda: 10**8)
    monkeypatch.setattr(prepare, "measure_memory", lambda: (10**8, 10**8))
    assert run_train(story, "--out", tmp_path / "m", "--threads", 2, *make_options()) == 1
    assert "needs 110.9 MB of memory" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(prepare, "measure_memory", lambda: (10**10, 10**8))
    assert run_train(story, "--out", tmp_path / "m", *make_options(n_steps=1)) == 0
    assert "only 100.0 MB" in capsys.readouterr().err


MEASURE = """
import re, resource, sys
from command_line import train

code = train.main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where the peak is told in kB")
def test_the_memory_that_is_announced_is_about_what_is_needed(story, tmp_path):
    sizes = dict(n_vocab=300, n_ctx=128, n_embd=256, n_head=4, n_layer=3, batch_size=4)
    options = make_options(**sizes, n_steps=2, threads=2)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, story, "--out", tmp_path / "m", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    assert run.returncode == 0, run.stderr
    said = 10**6 * float(re.search(r"memory: about ([\d.]+) MB", run.stderr)[1])
    peak = int(re.search(r"peak (\d+)", run.stdout)[1])
    assert 1e8 < peak and 0.8 < peak / said < 1.25


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
