"""How far apart do two right scorings of a token lie? The numbers behind heed/doctor/tolerances.py.

    python experiments/doctor/tolerances.py [--demo runs/demo] [--only WORDS]

One line a shape and dtype: the sampler's log-probabilities against the scorer's (T2), rows alone against rows in their
batch (T4), and rows in other batches against the rollout (T5, T11); each is |mean|, root mean square, 99th percentile
and largest difference, in nats. Weights are random, or those of a demo. A `sharp` shape has larger embeddings, so that
its logits are spread as a trained model's are.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from heed.models.answers import left_padded
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy
from heed.models.trunk import Trunk
from heed.rows.pieces import by_length, in_pieces, take
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def tokenizer_of(vocab: int) -> PreTrainedTokenizerFast:
    """Words of one id each; end-of-text 0, pad 1."""
    words = ["<|endoftext|>", "<|pad|>", *(f"w{i}" for i in range(vocab - 2))]
    text = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|pad|>"))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=text, eos_token=words[0], pad_token=words[1])


def gpt2(layers: int, width: int, heads: int, vocab: int, sharp: float, dtype: torch.dtype) -> Trunk:
    """A GPT-2 of random weights."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocab, n_positions=256, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0,
                        eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    model.transformer.wte.weight.mul_(sharp)
    return Trunk(model.to(dtype), tokenizer_of(vocab), "random")


def llama(layers: int, width: int, heads: int, vocab: int, sharp: float, dtype: torch.dtype) -> Trunk:
    """A Llama of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=256, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    model.lm_head.weight.mul_(sharp)
    return Trunk(model.to(dtype), tokenizer_of(vocab), "random")


SHAPES = {
    "tiny GPT-2": (gpt2, 2, 64, 4, 320, 5.0, 64),
    "pocket GPT-2": (gpt2, 4, 128, 8, 330, 5.0, 64),
    "GPT-2 small": (gpt2, 12, 768, 12, 50_257, 1.0, 12),
    "GPT-2 small, sharp": (gpt2, 12, 768, 12, 50_257, 6.0, 12),
    "Llama, 6 layers of 256, sharp": (llama, 6, 256, 8, 8_000, 6.0, 24),
}


def policies(demo: str, only: str) -> Iterator[tuple[str, str, Policy, int]]:
    """(shape, dtype, policy with an adapter that has left its trunk, rows)."""
    for name, (make, layers, width, heads, vocab, sharp, rows) in SHAPES.items():
        for called, dtype in DTYPES.items() if any(word in name for word in only.split(",")) else ():
            policy = trained_copy(Policy(make(layers, width, heads, vocab, sharp, dtype)), "policy", LoraSettings())
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in policy.parameters().values():
                    parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
            yield name, called, policy, rows
    for called, dtype in DTYPES.items() if demo else ():
        for name in ("sft", "ppo"):
            shelf = Shelf(lambda count, dtype=dtype: dtype, CPU)
            open_checkpoint(f"{demo}/{name}")
            yield f"the demo's {name}", called, shelf.policy(f"{demo}/{name}", "policy"), 64


def measured(policy: Policy, rows: int) -> dict[str, object]:
    """T2, T4 and T11 of one rollout."""
    vocab = policy.trunk.model.config.vocab_size
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 25, (rows,), generator=generator).tolist()
    asked = [torch.randint(2, vocab, (length,), generator=generator).tolist() for length in lengths]
    prompts = left_padded(asked, 1, CPU)
    responses = policy.generate(prompts, 32, 1.0, generator)
    mask = responses.mask
    with torch.no_grad(), policy.active():
        scored = in_pieces(prompts, responses, 32, policy.logprobs)
        others = torch.zeros_like(scored)
        for piece in torch.randperm(rows, generator=generator).split(5):
            line = policy.logprobs(*take(prompts, responses, piece))
            others[piece, : line.shape[1]] = line
        alone = torch.zeros_like(scored)
        for row in next(iter(by_length(prompts, responses, 8))):
            line = policy.logprobs(*take(prompts, responses, row[None]))
            alone[row, : line.shape[1]] = line[0]
    chosen = next(iter(by_length(prompts, responses, 8)))
    return {
        "T2": spread((scored - responses.logprobs)[mask]), "T4": spread((scored - alone)[chosen][mask[chosen]]),
        "T11": spread((scored - others)[mask]),
        "nats": round(-float(scored[mask].mean()), 2), "tokens": int(mask.sum()),
    }  # fmt: skip


def spread(gap: Tensor) -> list[float]:
    """|mean|, root mean square, 99th percentile, largest."""
    gap = gap.double()
    numbers = [gap.mean().abs(), gap.square().mean().sqrt(), gap.abs().quantile(0.99), gap.abs().max()]
    return [float(f"{float(number):.2g}") for number in numbers]


def main() -> None:
    """A line for each shape and dtype."""
    parser = argparse.ArgumentParser(description="how far apart two right scorings lie")
    parser.add_argument("--demo", default="", help="a directory of `heed demo`")
    parser.add_argument("--only", default="", help="shapes with one of these words in their name")
    asked = parser.parse_args()
    for name, dtype, policy, rows in policies(asked.demo, asked.only):
        print(json.dumps({"shape": name, "dtype": dtype, **measured(policy, rows)}), flush=True)


if __name__ == "__main__":
    main()
