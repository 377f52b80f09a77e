"""Is what `--dry_run` says of memory true? It beside whole runs, each in a process of its own.

    python tests/chaos/dry_run.py                     # a pocket model, GPT-2's shape with LoRA, and with all weights

GPT-2's shape has random weights and 50,257 words. Exit code 0: every estimate is within 20 % of the whole run's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

FAR = 0.2
CASES = {
    "pocket, all weights": ("pocket", ["--lora.rank", "0", "--batch", "32"]),
    "GPT-2, LoRA": ("gpt2", ["--lora.rank", "16", "--batch", "4"]),
    "GPT-2, all weights": ("gpt2", ["--lora.rank", "0", "--batch", "4"]),
}
SHAPES = {"pocket": (512, 96, 2, 3), "gpt2": (50_257, 768, 12, 12)}


def write_model(path: Path, vocabulary: int, width: int, layers: int, heads: int) -> None:
    """A model of GPT-2's architecture with random weights, and a tokenizer of one word an entry."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<|endoftext|>", "<pad>", *(f"w{i}" for i in range(vocabulary - 2))]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token=words[0], bos_token=words[0], pad_token=words[1]
    ).save_pretrained(path)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    shape = GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, **special)
    GPT2LMHeadModel(shape).save_pretrained(path)


def peak(arguments: list[str], place: Path) -> tuple[float, str]:
    """Megabytes that a command held at most, and what it printed."""
    program = "import resource, sys; from heed.cli import main; code = main(sys.argv[1:]); "
    program += "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 * 1.024); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.rpartition("PEAK ")[2]), done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--rows", type=int, default=60)
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as given:
        place = Path(given)
        rows = [{"prompt": f"w{i} w{i + 1}", "response": " ".join(f"w{i + j}" for j in range(4 + i % 40))}
                for i in range(2, asked.rows + 2)]  # fmt: skip
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for shape in {CASES[case][0] for case in asked.cases}:
            write_model(place / shape, *SHAPES[shape])
        for number, case in enumerate(asked.cases):
            shape, options = CASES[case]
            command = ["sft", "--model", shape, "--data", "rows.jsonl", "--output", f"run-{number}",
                       "--template", "plain", "--epochs", "1", "--completions", "2", "--completion_tokens", "8",
                       *options]  # fmt: skip
            _, told = peak([*command, "--dry_run", "true"], place)
            found = re.search(r"memory +([\d,]+) MB", told)
            assert found is not None, told
            estimate = float(found[1].replace(",", ""))
            measured, _ = peak(command, place)
            wrong += abs(estimate / measured - 1) > FAR
            print(
                f"{case}: estimated {estimate:,.0f} MB, measured {measured:,.0f} MB ({estimate / measured - 1:+.1%})",
                flush=True,
            )
            print(
                "\n".join(
                    line for line in told.splitlines() if line.startswith(("parameters", "disk", "tokens", "time"))
                )
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
