"""Hugging Face's folders: what transformers and tokenizers wrote is read, all else is refused."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from files import huggingface
from files.openai_folder import FolderError
from files.safetensors import read_safetensors, write_safetensors
from gpt2_numpy import gpt2
from programs import run_refused
from utils import ModelError, leaves, load_encoder_hparams_and_params, map_safetensors

FOLDERS = Path(__file__).parent / "fixtures" / "huggingface"
MODELS = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())


@pytest.fixture
def copied(tmp_path):
    """copied(name) is a copy of a folder, which a test may change."""

    def copy(name="plain"):
        return shutil.copytree(FOLDERS / name, tmp_path / name)

    return copy


def change_json(path, **changes):
    """Change fields of a JSON file; what is ... is left out."""
    said = json.loads(path.read_text("utf-8")) | changes
    said = {name: value for name, value in said.items() if value is not ...}
    path.write_text(json.dumps(said), "utf-8")


def change_tensors(folder, change):
    tensors = {
        name: np.array(a) for name, a in read_safetensors(folder / "model.safetensors").items()
    }
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors)


def refuse(folder):
    """The one line that loading a folder ends in."""
    with pytest.raises(ModelError) as refused:
        load_encoder_hparams_and_params(folder)
    line = str(refused.value)
    assert "\n" not in line and str(folder) in line
    return line


def compute(folder, ids):
    _, hparams, params = load_encoder_hparams_and_params(folder)
    return gpt2(ids, **params, n_head=hparams["n_head"])


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name):
    answers = np.load(FOLDERS / "answers.npz")
    logits, exact = compute(FOLDERS / name, answers[f"{name}/ids"]), answers[f"{name}/logits"]
    assert logits.dtype == np.float32 and exact.std() > 0.5
    assert np.abs(logits - exact).max() < 1e-5 * max(1, np.abs(exact).max())


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_tokenizers(name):
    said = json.loads((FOLDERS / "answers.json").read_text("utf-8"))
    encoder, hparams, _ = load_encoder_hparams_and_params(FOLDERS / name)
    assert encoder.n_vocab == hparams["n_vocab"]
    for text, ids in zip(said["texts"], said[name], strict=True):
        assert encoder.encode(text) == ids
        assert encoder.decode(ids) == text


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("epsilon", "layer_norm_epsilon"),
        ("unscaled", "scale_attn_weights"),
        ("by_layer", "scale_attn_by_inverse_layer_idx"),
        ("all_at_once", "scale_attn_weights"),
        ("all_at_once", "scale_attn_by_inverse_layer_idx"),
        ("all_at_once", "layer_norm_epsilon"),
    ],
)
def test_each_field_of_the_configuration_matters(copied, name, field):
    """Read as if it were not there, the same weights give other logits."""
    answers, folder = np.load(FOLDERS / "answers.npz"), copied(name)
    change_json(folder / "config.json", **{field: ...})
    logits, exact = compute(folder, answers[f"{name}/ids"]), answers[f"{name}/logits"]
    assert np.abs(logits - exact).max() > 2e-5 * np.abs(exact).max()


def test_a_narrow_feed_forward_network_is_filled_up_with_zeros():
    mlp = load_encoder_hparams_and_params(FOLDERS / "narrow")[2]["blocks"][0]["mlp"]
    assert mlp["c_fc"]["w"].shape == (12, 48) and mlp["c_proj"]["w"].shape == (48, 12)
    assert mlp["c_fc"]["w"][:, :20].all() and not mlp["c_fc"]["w"][:, 20:].any()
    assert not mlp["c_fc"]["b"][20:].any() and not mlp["c_proj"]["w"][20:].any()


def test_all_parameters_are_float32_and_read_only_and_mapped_where_they_can_be():
    for name in MODELS:
        _, hparams, params = load_encoder_hparams_and_params(FOLDERS / name)
        assert set(hparams) == {"n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"}
        for array in leaves(params):
            assert array.dtype == np.float32 and not array.flags.writeable
    _, _, params = load_encoder_hparams_and_params(FOLDERS / "plain")
    for array in leaves(params):
        while not isinstance(array, np.memmap):
            array = array.base


def test_added_tokens_and_filled_up_embeddings_have_names():
    encoder, hparams, _ = load_encoder_hparams_and_params(FOLDERS / "added_tokens")
    assert (
        encoder.decode(range(348, 354))
        == "[PAD]<|user|><|unused350|><|unused351|><|unused352|><|unused353|>"
    )
    assert hparams["n_vocab"] == 354 and set(encoder.special) >= {
        "[PAD]",
        "<|user|>",
        "<|endoftext|>",
    }
    assert encoder.encode("a<|user|>", allowed_special={"<|user|>"})[-1] == 349


def test_merges_may_be_texts_as_older_tokenizers_have_them(copied):
    said, folder = json.loads((FOLDERS / "answers.json").read_text("utf-8")), copied("old")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    os.replace(folder / "old_tokenizer.json", folder / "tokenizer.json")
    encoder = load_encoder_hparams_and_params(folder)[0]
    assert [encoder.encode(text) for text in said["texts"]] == said["old"]


def test_added_tokens_may_be_in_a_file_of_their_own(copied):
    folder = copied("old")
    (folder / "added_tokens.json").write_text('{"[PAD]": 348}')
    assert "349 tokens, where config.json says 348" in refuse(folder)
    change_json(folder / "config.json", vocab_size=349)

    def grow(tensors):
        tensors["wte.weight"] = np.pad(tensors["wte.weight"], [(0, 1), (0, 0)])
        del tensors["lm_head.weight"]

    change_tensors(folder, grow)
    encoder = load_encoder_hparams_and_params(folder)[0]
    assert encoder.special == {"<|endoftext|>": 300, "[PAD]": 348}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, 'model_type is "llama"'),
        ({"model_type": ...}, "model_type is missing"),
        ({"model_type": ["gpt2"]}, 'model_type is ["gpt2"]'),
        ({"activation_function": "gelu"}, 'activation_function is "gelu"'),
        ({"activation_function": "relu"}, 'activation_function is "relu"'),
        ({"add_cross_attention": True}, "add_cross_attention is true"),
        ({"activation_function": "quick_gelu"}, 'activation_function is "quick_gelu"'),
        ({"activation_function": "gelu_python"}, 'activation_function is "gelu_python"'),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map is"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, 'architectures is ["GPT2ForS'),
        ({"architectures": "GPT2LMHeadModel"}, 'architectures is "GPT2LMHeadModel"'),
        ({"layer_norm_epsilon": 9e-13}, "layer_norm_epsilon is 9e-13"),
        ({"layer_norm_epsilon": 1.5}, "layer_norm_epsilon is 1.5"),
        ({"is_causal": False}, "is_causal is false"),
        ({"sliding_window": 4}, "sliding_window is 4"),
        ({"num_attention_heads": 3}, "n_head is 2, and num_attention_heads 3"),
        ({"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}'),
        ({"scale_attn_weights": None}, "scale_attn_weights is null"),
        ({"scale_attn_weights": 1}, "scale_attn_weights is 1"),
        ({"scale_attn_by_inverse_layer_idx": "yes"}, 'scale_attn_by_inverse_layer_idx is "yes"'),
        ({"tie_word_embeddings": 0}, "tie_word_embeddings is 0"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ({"n_inner": 49}, "n_inner is 49: here it is at most 4 * n_embd, 48"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"n_inner": True}, "n_inner is True"),
        ({"n_head": 5}, "n_embd 12 cannot be divided among n_head 5 heads"),
        ({"n_embd": 12.0}, "n_embd is 12.0"),
        ({"n_layer": -1}, "n_layer is -1"),
        ({"n_positions": None}, "n_positions is missing"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name_and_value(copied, changes, words):
    folder = copied()
    change_json(folder / "config.json", **changes)
    assert words in refuse(folder)


def test_what_does_not_change_the_result_is_no_obstacle(copied):
    answers, folder = np.load(FOLDERS / "answers.npz"), copied()
    change_json(
        folder / "config.json",
        activation_function="gelu_accurate",
        reorder_and_upcast_attn=True,
        resid_pdrop=0.5,
        n_inner=48,
        n_positions=...,
        n_ctx=16,
        n_head=...,
        num_attention_heads=2,
        n_layer=...,
        num_hidden_layers=2,
        n_embd=...,
        hidden_size=12,
        layer_norm_epsilon=...,
        scale_attn_weights=...,
        scale_attn_by_inverse_layer_idx=...,
        tie_word_embeddings=...,
        summary_type="mean",
        use_cache=False,
    )
    logits = compute(folder, answers["plain/ids"])
    assert np.array_equal(logits, compute(FOLDERS / "plain", answers["plain/ids"]))


def test_what_older_files_leave_out_is_as_in_the_smallest_gpt2():
    config = huggingface.parse_config('{"model_type": "gpt2"}')
    assert config.hparams == dict(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
    assert config == huggingface.Config(config.hparams, 3072, 1e-5, True, False, True)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"gpt2"', "<html>", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(text):
    with pytest.raises(FolderError, match="JSON"):
        huggingface.parse_config(text)


def test_an_output_projection_of_its_own_is_refused(copied):
    folder = copied("old")

    def untie(tensors):
        tensors["lm_head.weight"][3, 4] += 1e-3

    change_tensors(folder, untie)
    assert "lm_head.weight is not wte.weight (tie_word_embeddings is true)" in refuse(folder)


def test_one_that_should_be_there_is_missed(copied):
    folder = copied()
    change_json(folder / "config.json", tie_word_embeddings=False)
    assert "tie_word_embeddings is false, and there is no lm_head.weight" in refuse(folder)


def test_one_that_equals_the_embedding_is_tied_whatever_is_said(copied):
    folder = copied("old")
    change_json(folder / "config.json", tie_word_embeddings=False)
    answers = np.load(FOLDERS / "answers.npz")
    assert np.allclose(compute(folder, answers["old/ids"]), answers["old/logits"], atol=1e-4)


def rename(tensors, name, other):
    tensors[other] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer.wpe.weight"), "no tensor wpe.weight (of shape (16, 12))"),
        (lambda t: t.update({"score.weight": t["transformer.ln_f.bias"]}), "such as score.weight"),
        (lambda t: t.update({"h.0.x": t["transformer.ln_f.bias"]}), "such as h.0.x"),
        (
            lambda t: t.update({"ln_f.bias": t["transformer.ln_f.bias"]}),
            "ln_f.bias is there twice; have transformers",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.zeros(13, np.float32)}),
            "ln_f.bias is of shape (13,), expected (12,)",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.zeros(12)}),
            "ln_f.bias is F64, expected float32",
        ),
        (
            lambda t: rename(t, "transformer.h.1.ln_1.bias", "transformer.h.2.ln_1.bias"),
            "no tensor h.1.ln_1.bias",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(copied, change, words):
    folder = copied()
    change_tensors(folder, change)
    assert words in refuse(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "'WordPiece'"),
        ({"model": {"type": "Unigram"}}, "'Unigram'"),
        ({"model": None}, "None"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "'Whitespace'"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}},
            "use_regex False, not True",
        ),
        (
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}],
                }
            },
            "'Sequence'",
        ),
        ({"normalizer": {"type": "NFC"}}, "NFC"),
        (
            {"post_processor": {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}}},
            "Templ",
        ),
        ({"post_processor": {"type": "RobertaProcessing", "add_prefix_space": False}}, "Roberta"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
        ({"post_processor": "x"}, "post_processor"),
        ({"decoder": {"type": "WordPiece"}}, "its decoder is {'type': 'WordPiece'}"),
        ({"truncation": {"max_length": 1}}, "has truncation"),
        ({"padding": {"length": 9}}, "has padding"),
        ({"added_tokens": [{"id": 300, "content": "<|endoftext|>", "lstrip": True}]}, "beside it"),
        (
            {"added_tokens": [{"id": 300, "content": "<|endoftext|>", "single_word": True}]},
            "beside",
        ),
        (
            {
                "post_processor": {
                    "type": "Sequence",
                    "processors": [
                        {"type": "ByteLevel"},
                        {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}},
                    ],
                }
            },
            "TemplateProcessing",
        ),
        ({"added_tokens": [{"id": 3}]}, "added token"),
        ({"added_tokens": 3}, "added_tokens"),
        ({"added_tokens": [{"id": "x", "content": "<|endoftext|>"}]}, "has id 'x'"),
        ({"added_tokens": [{"id": 3, "content": "<|endoftext|>"}]}, "have the same id, 3"),
    ],
)
def test_tokenizers_that_are_not_gpt2s_are_refused(copied, change, words):
    folder = copied()
    change_json(folder / "tokenizer.json", **change)
    line = refuse(folder)
    assert words in line and "tokenizer.json" in line and "encoder.json" not in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"add_prefix_space": True}, "add_prefix_space is True"),
        ({"add_bos_token": True}, "add_bos_token is True"),
        ({"add_eos_token": True}, "add_eos_token is True"),
        ({"tokenizer_class": "RobertaTokenizer"}, "tokenizer_class is 'RobertaTokenizer'"),
        ({"extra_special_tokens": ["he"]}, "added token 'he' is also one of the vocabulary"),
        ({"extra_special_tokens": {"image_token": "<i>"}}, "added token '<i>' has no id"),
        ({"additional_special_tokens": [{"content": "er"}]}, "added token 'er' is also one of"),
        ({"eos_token": "he"}, "added token 'he' is also one of the vocabulary"),
        ({"pad_token": {"content": "e"}}, "added token 'e' is also one of the vocabulary"),
        ({"added_tokens_decoder": {"3": {"content": "he"}}}, "added token 'he' is also one of"),
        ({"added_tokens_decoder": {"3": {"content": "e"}}}, "added token 'e' is also one of"),
        ({"added_tokens_decoder": {"x": {"content": "<x>"}}}, "an added token is 'x'"),
        ({"added_tokens_decoder": 3}, "added_tokens_decoder is 3"),
        ({"extra_special_tokens": 3}, "extra_special_tokens is 3"),
    ],
)
@pytest.mark.parametrize("name", ["plain", "old"])
def test_what_tokenizer_config_asks_for_besides_is_refused(copied, name, change, words):
    folder = copied(name)
    change_json(folder / "tokenizer_config.json", **change)
    line = refuse(folder)
    is_damage = next(iter(change.values())) == 3 or "added_tokens_decoder" in change
    assert words in line and (is_damage or "fetch" not in line)


def test_an_added_token_that_is_a_word_of_the_vocabulary_is_refused(copied):
    folder = copied()
    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    for word in ("he", "e"):
        token = said["added_tokens"][0] | {"content": word, "id": said["model"]["vocab"][word]}
        change_json(folder / "tokenizer.json", added_tokens=[*said["added_tokens"], token])
        line = refuse(folder)
        assert f"its added token {word!r} is also one of the vocabulary" in line


def test_added_tokens_may_be_called_by_their_names(copied):
    folder = copied("added_tokens")
    change_json(
        folder / "tokenizer_config.json",
        eos_token="<|endoftext|>",
        pad_token="[PAD]",
        extra_special_tokens=["<|user|>"],
        additional_special_tokens=["<|user|>", {"content": "[PAD]"}],
    )
    assert load_encoder_hparams_and_params(folder)[0].special["<|user|>"] == 349


def test_the_token_that_ends_a_text_may_have_another_name(copied):
    folder = copied()
    said = (folder / "tokenizer.json").read_text("utf-8").replace("<|endoftext|>", "</s>")
    (folder / "tokenizer.json").write_text(said, "utf-8")
    change_json(folder / "config.json", eos_token_id=300)
    encoder = load_encoder_hparams_and_params(folder)[0]
    assert encoder.eot == 300 == encoder.special["</s>"]
    change_json(folder / "config.json", eos_token_id=3)
    assert load_encoder_hparams_and_params(folder)[0].eot is None  # that is an ordinary token


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dropout", 0.1),
        ("continuing_subword_prefix", "##"),
        ("end_of_word_suffix", "</w>"),
        ("byte_fallback", True),
        ("ignore_merges", True),
        ("merges", [["a", 1]]),
        ("merges", ["a b c"]),
        ("merges", [7]),
        ("merges", {}),
        ("merges", [["a b", "c"]]),
        ("vocab", []),
        ("vocab", {}),
    ],
)
def test_so_are_their_models(copied, field, value):
    folder = copied()
    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    change_json(folder / "tokenizer.json", model=said["model"] | {field: value})
    assert "tokenizer.json" in refuse(folder)


def test_a_pre_tokenizer_may_be_a_sequence_of_one(copied):
    folder = copied()
    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    sequence = {"type": "Sequence", "pretokenizers": [said["pre_tokenizer"]]}
    change_json(folder / "tokenizer.json", pre_tokenizer=sequence)
    assert load_encoder_hparams_and_params(folder)[0].n_vocab == 348


def test_a_vocabulary_of_two_files_is_checked_under_their_names(copied):
    folder = copied("old")
    merges = (folder / "merges.txt").read_text("utf-8")
    (folder / "merges.txt").write_text(merges + "q z\n", "utf-8")
    assert f"{folder / 'merges.txt'}: merge 'q z'" in refuse(folder)
    (folder / "merges.txt").write_text(merges, "utf-8")
    change_json(folder / "vocab.json", **{"<|endoftext|>": 3})
    assert f"{folder / 'vocab.json'}: " in refuse(folder)


@pytest.mark.parametrize(
    ("name", "removed", "missing"),
    [
        ("plain", ["model.safetensors"], "missing are model.safetensors;"),
        ("plain", ["tokenizer.json"], "missing are tokenizer.json;"),
        ("old", ["config.json"], "missing are config.json; put them there"),
        ("old", ["merges.txt", "model.safetensors"], "missing are model.safetensors, merges.txt;"),
        ("old", ["merges.txt"], "missing are merges.txt;"),
        (
            "sharded",
            ["model-00002-of-00004.safetensors", "model-00004-of-00004.safetensors"],
            "missing are model-00002-of-00004.safetensors, model-00004-of-00004.safetensors;",
        ),
    ],
)
def test_what_is_missing_is_said(copied, name, removed, missing):
    folder = copied(name)
    for file in removed:
        (folder / file).unlink()
    assert missing in refuse(folder)


def test_the_newer_name_of_the_context_and_the_newer_tokenizer_count(copied):
    folder = copied("old")
    change_json(folder / "config.json", n_ctx=8)
    assert load_encoder_hparams_and_params(folder)[1]["n_ctx"] == 16
    said = json.loads((FOLDERS / "plain" / "tokenizer.json").read_text("utf-8"))
    said["model"]["merges"] = said["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(said), "utf-8")
    assert "tokenizer.json: no merge makes" in refuse(folder)


def test_other_kinds_of_vocabularies_are_called_by_their_names(copied):
    folder = copied()
    (folder / "tokenizer.json").unlink()
    for name, kind in (("vocab.txt", "a WordPiece"), ("spiece.model", "SentencePiece's")):
        (folder / name).write_text("x")
        assert f"{name} is {kind} vocabulary" in refuse(folder)
        (folder / name).unlink()


def test_bfloat16_is_not_read_to_look_at_a_model(copied, monkeypatch):
    monkeypatch.setattr(huggingface.Tensor, "read", lambda tensor: pytest.fail("read"))
    _, weights = map_safetensors(FOLDERS / "bfloat16")
    assert weights["wte"].shape == (348, 12) and weights["wte"].dtype == np.float32


def test_a_pickle_is_never_opened(copied):
    folder = copied()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    assert "pytorch_model.bin is not opened here, where nothing is that could run" in refuse(folder)
    os.replace(folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json")
    assert "pytorch_model.bin.index.json is not opened here" in refuse(folder)


@pytest.mark.parametrize(
    "names",
    [
        {},
        [],
        {"a": "../plain/model.safetensors"},
        {"a": "/etc/passwd"},
        {"a": "model.bin"},
        {"a": ".safetensors"},
        {"a": 3},
        {"a": "a\\b.safetensors"},
        {"a": "x.safetensors\n"},
    ],
)
def test_an_index_names_files_beside_it_and_no_others(copied, names):
    folder = copied("sharded")
    change_json(folder / "model.safetensors.index.json", weight_map=names)
    assert re.search("weight_map|no plain name", refuse(folder))


def test_a_tensor_that_is_in_two_files_is_refused(copied):
    folder = copied("sharded")
    first, second = (folder / f"model-0000{i}-of-00004.safetensors" for i in (1, 2))
    write_safetensors(first, {**read_safetensors(first), **read_safetensors(second)})
    assert "h.0.attn.c_attn.bias is there twice" in refuse(folder)


def test_openais_layout_comes_first_where_both_are_there(copied, tiny_model):
    folder = shutil.copytree(tiny_model, copied().parent / "both")
    shutil.copytree(FOLDERS / "plain", folder, dirs_exist_ok=True)
    assert (
        load_encoder_hparams_and_params(folder)[1] == load_encoder_hparams_and_params(tiny_model)[1]
    )


def test_where_openais_is_not_whole_the_other_can_be_had(copied, tiny_model):
    folder = copied()
    (folder / "hparams.json").write_bytes((tiny_model / "hparams.json").read_bytes())
    assert "or remove hparams.json to have" in refuse(folder)
    (folder / "hparams.json").unlink()
    assert load_encoder_hparams_and_params(folder)


def test_a_file_is_not_taken_for_a_folder():
    path = FOLDERS / "plain" / "model.safetensors"
    with pytest.raises(ModelError, match="is a file; give the folder that it is in"):
        load_encoder_hparams_and_params(path)


def test_transformers_name_of_a_model_leads_to_the_hubs(tmp_path):
    for name in ("gpt2", "GPT2-xl"):
        with pytest.raises(ModelError, match=f"did you mean openai-community/{name.lower()}?"):
            load_encoder_hparams_and_params(name, tmp_path)


def test_a_name_that_is_right_is_not_suggested(tmp_path):
    with pytest.raises(ModelError) as refused:
        load_encoder_hparams_and_params("openai-community/gpt2", tmp_path)
    assert "so the Hub was asked" in str(refused.value) and "did you mean" not in str(refused.value)


def test_a_run_does_not_write_into_such_a_folder(copied, story, capsys):
    assert "already holds a model (config.json)" in run_refused(capsys, story, "--out", copied())


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_values_of_any_type_in_any_field_are_one_line_at_most(copied, file):
    folder = copied("added_tokens")
    said = json.loads((folder / file).read_text("utf-8"))
    names = {*said, "extra_special_tokens", "additional_special_tokens", "added_tokens_decoder"}
    for name in sorted(names | {"pad_token", "architectures", "eos_token_id", "n_inner"}):
        for value in (None, -1, 1.5, "x", [], {}, True, [1], [[]], [{}], {"a": 1}, {"type": []}):
            (folder / file).write_text(json.dumps(said | {name: value}), "utf-8")
            try:
                load_encoder_hparams_and_params(folder)
            except ModelError as error:
                assert "\n" not in str(error)


def test_damage_to_small_files_is_one_line(copied):
    """With a bit flipped or the end cut off they load the same, or are refused."""
    for name, file in (("plain", "config.json"), ("sharded", "model.safetensors.index.json")):
        folder = copied(name)
        content, rng = (folder / file).read_bytes(), np.random.default_rng(1)
        exact = leaves(load_encoder_hparams_and_params(folder)[2])
        refused = 0
        for place in rng.choice(len(content), 150, replace=False):
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            (folder / file).write_bytes(changed if place % 3 else content[:place])
            try:
                _, hparams, params = load_encoder_hparams_and_params(folder)
            except ModelError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            if hparams["n_head"] == 2 and file != "config.json":
                assert all(map(np.array_equal, leaves(params), exact))
        assert refused > 20
