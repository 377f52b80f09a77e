"""What heed makes of a family: logits as stock's, artefacts that stock classes open, or a refusal in two lines."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from families import build
from peft import PeftModel
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, PreTrainedModel

from heed.errors import CheckpointError
from heed.models.artefact import Artefact, TemplateUsed
from heed.models.checkpoint import open_checkpoint
from heed.models.layout import layout_of
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, ScalarModel, ValueModel, new_head
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")
LENGTHS = (40, 23, 7)  # longer than every sliding window, and shorter
CHAT = "{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}"
USED = TemplateUsed("dialogue", "0123456789ab", CHAT)


@dataclass(frozen=True)
class Found:
    """A line of docs/architectures.md. `refused` is the first line of the refusal, without the name."""

    model_class: str
    readout: str = ""
    reward: str = ""
    value: str = ""
    refused: str = ""


def find(family: str, place: Path) -> Found:
    """Build a family, try everything on it, and tell. Anything that is neither right nor refused raises."""
    path = build(family, place / "base")
    stock = AutoModelForCausalLM.from_pretrained(path).eval()
    try:
        trunk = Trunk.load(open_checkpoint(str(path)), torch.float32, CPU)
        trunk.add_adapter("fresh", LoraSettings(rank=2))
    except CheckpointError as error:
        assert str(error).count("\n") == 1
        return Found(type(stock).__name__, refused=error.what)
    check_logits(trunk, stock)
    check_sampler(trunk)
    check_saved(path, stock, place)
    alone = trunk.head is trunk.model.get_output_embeddings()
    kinds = {kind: layout_of(trunk.model, kind) for kind in ("reward", "value")}
    names = {kind: type(found.stock).__name__ if found.stock is not None else "own" for kind, found in kinds.items()}
    return Found(type(stock).__name__, "head" if alone else "own forward", names["reward"], names["value"])


def rows(vocabulary: int) -> list[Tensor]:
    """Texts of three lengths, of ordinary entries."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, vocabulary - 1, (length,), generator=generator) for length in LENGTHS]


def padded(texts: list[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    """Texts in one batch, padded with an ordinary token."""
    width = max(map(len, texts))
    tokens, mask = torch.full((len(texts), width), 77), torch.zeros(len(texts), width, dtype=torch.bool)
    for row, text in enumerate(texts):
        place = slice(width - len(text), None) if left else slice(len(text))
        tokens[row, place], mask[row, place] = text, True
    return tokens, mask


@torch.no_grad()
def check_logits(trunk: Trunk, stock: PreTrainedModel, adapter: str | None = None) -> None:
    """Padded on either side, the logits of every real token are those of the stock model, of each text alone."""
    texts = rows(trunk.vocabulary)
    expected = torch.cat([stock(input_ids=text[None]).logits[0] for text in texts])
    assert float(expected.std()) > 0.1
    for left in (True, False):
        tokens, mask = padded(texts, left)
        with trunk.active(adapter):
            found = trunk.logits(trunk.hidden(tokens, mask)[mask])
        assert_close(found, expected, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def check_sampler(trunk: Trunk) -> None:
    """What is drawn token by token is scored alike in one forward pass, prompts of several lengths side by side."""
    from heed.batches import PromptBatch

    prompts = PromptBatch(*padded(rows(trunk.vocabulary), left=True))
    drawn = Policy(trunk).generate(prompts, 24, 1.0, torch.Generator().manual_seed(0), copies=2)
    twice = PromptBatch(prompts.tokens.repeat_interleave(2, 0), prompts.mask.repeat_interleave(2, 0))
    assert drawn.mask.sum() > 24
    assert_close(Policy(trunk).logprobs(twice, drawn), drawn.logprobs, atol=2e-4, rtol=1e-4)


def disturbed(model: Any) -> Any:
    """Moves what training moves."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def check_saved(path: Path, stock: PreTrainedModel, place: Path) -> None:
    """Policy, reward and value model, as adapter and whole: stock libraries open them by the card's own code, with
    equal numbers, and so does heed."""
    for rank in (2, 0):
        shelf = Shelf(lambda _: torch.float32, CPU)
        base = shelf.policy(str(path), "base")
        policy = disturbed(trained_copy(base, "policy", LoraSettings(rank=rank)))
        saved = save(policy, place / f"policy{rank}", path)
        check_logits(policy.trunk, AutoModelForCausalLM.from_pretrained(saved).eval(), policy.adapter)
        if rank:
            by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(path), saved).eval()
            check_logits(policy.trunk, by_peft, policy.adapter)
        again = Shelf(lambda _: torch.float32, CPU).policy(str(saved), "again")
        check_logits(again.trunk, AutoModelForCausalLM.from_pretrained(saved).eval(), again.adapter)
        for kind in (RewardModel, ValueModel):
            body = trained_copy(base, kind.__name__, LoraSettings(rank=rank))
            head = new_head(body.trunk.width, torch.Generator().manual_seed(3)).requires_grad_(False)
            model = disturbed(kind(body.trunk, body.adapter, head, 0.5, -1.25))
            check_scalar(model, save(model, place / f"{kind.__name__}{rank}", path))


def save(model: Policy | ScalarModel, path: Path, base: Path) -> Path:
    adapter = model.adapter is not None
    of = {"base": str(base), "base_hash": model.trunk.hash} if adapter else {}
    Artefact("sft", "mine", "A model.", "seed: 0", {}, USED, **of).save(model, path)
    return path


def check_scalar(model: ScalarModel, path: Path) -> None:
    namespace, printed = run_card(path)
    tokens = torch.tensor([namespace["prompt"] + namespace["answer"]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad(), model.active():
        ours = model.read(model.trunk.hidden(tokens, mask))[0]
    if isinstance(model, RewardModel):
        raw, score = map(float, printed.split())
        assert_close(torch.tensor([raw, score]), torch.stack([(ours[-1] + 1.25) / 0.5, ours[-1]]), atol=2e-4, rtol=1e-4)
        again = Shelf(lambda _: torch.float32, CPU).reward_model(str(path), "again")
        texts = rows(again.trunk.vocabulary)
        for one in (model, again):
            with torch.no_grad(), one.active():
                alone = torch.cat([one.scores(text[None], torch.ones(1, len(text)).bool()) for text in texts])
                for left in (True, False):
                    assert_close(one.scores(*padded(texts, left)), alone, atol=2e-4, rtol=1e-4)
                scores = alone if one is model else scores
                assert_close(alone, scores, atol=2e-4, rtol=1e-4)
    else:
        assert_close(namespace["values"], ours, atol=2e-4, rtol=1e-4)


def run_card(path: Path) -> tuple[dict[str, Any], str]:
    """The code block of a card, executed: the names that it leaves, and what it prints."""
    code = (path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "heed" not in code.replace("as heed gives it", "")
    namespace: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("PATH", str(path)), namespace)
    return namespace, printed.getvalue()
