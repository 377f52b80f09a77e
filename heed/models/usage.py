"""The code on a model card: how stock libraries open what was saved, and get from it the numbers that heed gets."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """What the code depends on. `kind` is policy, reward or value; `stock`: there is a stock class of that kind.

    `chat`: stock `apply_chat_template` writes the prompt; `space`: a response follows its prompt after a space.
    """

    kind: str
    adapter: bool
    stock: bool = True
    chat: bool = True
    space: bool = True
    gain: float = 1.0
    bias: float = 0.0


def code(usage: Usage) -> list[str]:
    """Python that runs without heed, once PATH is the directory or its name on the hub: step by step, and in one call
    where transformers has a pipeline for it."""
    return [_policy(usage) if usage.kind == "policy" else _scalar(usage), *_pipeline(usage)]


def serving(usage: Usage, base: str = "BASE") -> str:
    """Commands that serve a policy; empty for other models, which nothing asks over HTTP."""
    if usage.kind != "policy":
        return ""
    if usage.adapter:
        return (
            f"vllm serve {base} --enable-lora --lora-modules mine=PATH\n"
            "heed export PATH --merge true --output MERGED && transformers serve MERGED"
        )
    return "transformers serve PATH\nvllm serve PATH"


def _policy(usage: Usage) -> str:
    question = '[{"role": "user", "content": "Hi"}]'
    options = 'add_generation_prompt=True, return_tensors="pt", return_dict=True'
    asked = (
        f"tokenizer.apply_chat_template({question}, {options})"
        if usage.chat
        else 'tokenizer("Hi", return_tensors="pt")'
    )
    return f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForCausalLM.from_pretrained("PATH"){"  # needs peft" if usage.adapter else ""}

prompt = {asked}
answer = model.generate(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"])
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _pipeline(usage: Usage) -> list[str]:
    """Of an adapter, a pipeline takes from the base whatever it is not told: the tokenizer, the number of labels."""
    if usage.kind == "value" or not usage.stock:
        return []
    told = ', tokenizer="PATH"' if usage.adapter else ""
    because = ", which takes from an adapter's base what it is not told" if usage.adapter else ""
    if usage.kind == "policy":
        question = '[{"role": "user", "content": "Hi"}]' if usage.chat else '"Hi"'
        return [
            f"""\
# the same in one call{because}
from transformers import pipeline

answer = pipeline("text-generation", model="PATH"{told})
print(answer({question}, return_full_text=False)[0]["generated_text"])"""
        ]
    told += ', model_kwargs={"num_labels": 1}' if usage.adapter else ""
    return [
        f"""\
# the raw score in one call{because}
from transformers import pipeline

judge = pipeline("text-classification", model="PATH"{told})
text = tokenizer.decode(prompt + answer)
print(judge(text, function_to_apply="none", add_special_tokens=False)[0]["score"])"""
    ]


def _scalar(usage: Usage) -> str:
    opened = _stock_model(usage) if usage.stock else _own_model(usage)
    question = '[{"role": "user", "content": "Hi"}]'
    asked = f"tokenizer.apply_chat_template({question}, add_generation_prompt=True, return_dict=False)"
    said = '" Hello."' if usage.space else '"Hello."'
    return f"""\
import torch
{opened[0]}

{opened[1]}

prompt = {asked if usage.chat else 'tokenizer("Hi").input_ids'}
answer = tokenizer({said}, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
with torch.no_grad():
    {opened[2]}
{_read(usage)}"""


def _stock_model(usage: Usage) -> tuple[str, str, str]:
    """Imports, opening, and the numbers of every token or of the text."""
    task = "SequenceClassification" if usage.kind == "reward" else "TokenClassification"
    loader = f"AutoPeftModelFor{task}" if usage.adapter else f"AutoModelFor{task}"
    imports = f"from peft import {loader}\nfrom transformers import AutoTokenizer" if usage.adapter else (
        f"from transformers import {loader}, AutoTokenizer"
    )  # fmt: skip
    options = ", num_labels=1" if usage.adapter else ""
    opening = f"""\
tokenizer = AutoTokenizer.from_pretrained("PATH")
model = {loader}.from_pretrained("PATH"{options}).eval()
model.config.pad_token_id = tokenizer.pad_token_id  # of texts in a batch, padded on the right"""
    return imports, opening, "numbers = model(input_ids=torch.tensor([prompt + answer])).logits[0].float()"


def _own_model(usage: Usage) -> tuple[str, str, str]:
    imports = "from safetensors.torch import load_file\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
    opening = f"""\
path = "PATH"
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path).eval(){"  # needs peft" if usage.adapter else ""}
head = load_file(f"{{path}}/score.safetensors")["score.weight"]"""
    hidden = "model.base_model(input_ids=torch.tensor([prompt + answer])).last_hidden_state[0].float()"
    last = "[-1]" if usage.kind == "reward" else ""
    return imports, opening, f"hidden = {hidden}\n    numbers = (hidden @ head.T){last}"


def _read(usage: Usage) -> str:
    if usage.kind == "reward":
        return f"""\
raw = float(numbers[0])
score = {usage.gain!r} * raw + {usage.bias!r}  # as heed gives it: gain · raw + bias
print(raw, score)"""
    return f"""\
raw = numbers[:, 0]
values = {usage.gain!r} * raw + {usage.bias!r}  # after each token, the score that is expected of the whole answer
print(values[len(prompt) - 1 :].tolist())"""
