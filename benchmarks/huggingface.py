"""Whether the libraries of others open what is converted here, and say the same; and the reverse.

    pip install -r requirements.txt torch transformers
    python benchmarks/huggingface.py TEXT

A model is converted to Hugging Face's layout. transformers and tokenizers open it, and their ids,
logits and greedy texts are compared with ours. transformers trains it for some steps on TEXT and
saves it, and it is opened here. Where they are installed, CTranslate2 converts and runs it, and
TensorFlow reads the checkpoint that it becomes again. The last line says whether all agreed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from command_line.convert import convert
from files.tf_checkpoint import read_checkpoint
from gpt2_numpy import generate, gpt2
from utils import load_encoder_hparams_and_params

PROMPTS = ("Once upon a time", "The wolf", " don't", "naïve 🐺 1,234\n\n")
N_NEW, N_STEPS = 40, 20


def speak(model, prompt):
    """Our greedy text, as ids."""
    encoder, hparams, params = model
    return list(generate(encoder.encode(prompt), params, hparams["n_head"], N_NEW))


def check_transformers(folder, text):
    """{what was compared: whether it was equal} of a folder, ours and as transformers opens it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    encoder, hparams, params = ours = load_encoder_hparams_and_params(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def speak_there(prompt):
        ids = torch.tensor([tokenizer(prompt).input_ids])
        settings = dict(max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False)
        made = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        return made[0, ids.shape[1] :].tolist()

    ids = encoder.encode(text[:20_000])
    window = np.array(ids[: min(len(ids), hparams["n_ctx"] - 1)])
    with torch.no_grad():
        exact = model(torch.from_numpy(window)[None]).logits[0].numpy()
    difference = np.abs(gpt2(window, **params, n_head=hparams["n_head"]) - exact).max()
    largest = np.abs(exact).max()
    print(f"    logits differ by at most {difference:.1e}, where they are up to {largest:.1f}")
    return {
        "ids": tokenizer(text[:20_000]).input_ids == ids,
        "text of ids": tokenizer.decode(ids) == text[:20_000],
        "logits": difference < 1e-5 * largest,
        "greedy texts": all(speak(ours, prompt) == speak_there(prompt) for prompt in PROMPTS),
    }


def fine_tune(folder, text, out):
    """A folder of a model that transformers has trained further and saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4)
    ids = torch.tensor(tokenizer(text).input_ids)
    for _ in range(N_STEPS):
        rows = torch.stack([ids[i : i + 64] for i in torch.randint(len(ids) - 64, (8,))])
        loss = model(rows, labels=rows).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def check_ctranslate2(folder, out):
    """Whether its greedy texts are ours. ImportError where it is not installed."""
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(out))
    generator = ctranslate2.Generator(str(out))
    encoder, *_ = ours = load_encoder_hparams_and_params(folder)

    def speak_there(prompt):
        tokens = [encoder.decoder[i] for i in encoder.encode(prompt)]
        [result] = generator.generate_batch(
            [tokens],
            max_length=N_NEW,
            min_length=N_NEW,
            include_prompt_in_result=False,
        )
        return result.sequences_ids[0]

    return {"greedy texts": all(speak(ours, p)[:20] == speak_there(p)[:20] for p in PROMPTS)}


def check_tensorflow(folder):
    """Whether it reads what we read. ImportError where it is not installed."""
    import tensorflow

    prefix = str(folder / "model.ckpt")
    reader, found = tensorflow.train.load_checkpoint(prefix), read_checkpoint(prefix)
    names = reader.get_variable_to_shape_map()
    same = all(np.array_equal(reader.get_tensor(name), found[name]) for name in names)
    return {"tensors": same and set(names) == set(found)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--model", default="tales")
    arguments = parser.parse_args()
    text = Path(arguments.text).read_text("utf-8")
    results = []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        convert(arguments.model, place / "there", "huggingface")
        convert(place / "there", place / "back", "openai")
        for title, check in (
            ("transformers", lambda: check_transformers(place / "there", text)),
            (
                "a model that transformers has fine-tuned",
                lambda: check_transformers(fine_tune(place / "there", text, place / "tuned"), text),
            ),
            ("CTranslate2", lambda: check_ctranslate2(place / "there", place / "ct2")),
            (
                "TensorFlow, of the checkpoint made from it",
                lambda: check_tensorflow(place / "back"),
            ),
        ):
            print(title)
            try:
                equal = check()
            except ImportError as error:
                print(f"    left out: {error}")
                continue
            results += equal.values()
            for what, is_equal in equal.items():
                print(f"    {what}: {'equal' if is_equal else 'DIFFERENT'}")
    print("all agreed" if all(results) else "NOT all agreed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
