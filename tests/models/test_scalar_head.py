from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from heed.batches import PromptBatch, Responses
from heed.data.batch import ranking_batch
from heed.data.encode import EncodedRanking
from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy
from heed.models.roles import Roles, Shelf, load_roles, trained_copy
from heed.models.scalar_head import RewardModel, ValueModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)
FULL = LoraSettings(rank=0)


def disturb(parameters: dict[str, torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in parameters.values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


def reward_model(trunk: Trunk, lora: LoraSettings = LORA) -> RewardModel:
    body = trained_copy(Policy(trunk), "reward", lora)
    head = new_head(trunk.width, torch.Generator().manual_seed(0))
    model = RewardModel(body.trunk, body.adapter, head.requires_grad_(False), gain=0.5, bias=-1.0)
    disturb(model.parameters())
    return model


def test_score_is_read_at_the_last_real_token_on_either_padding_side(trunk: Trunk) -> None:
    model = reward_model(trunk)
    right = torch.tensor([[5, 6, 7, 0, 99, 99], [5, 0, 8, 9, 10, 0]])  # an end-of-text inside the second text
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    left = torch.tensor([[99, 99, 5, 6, 7, 0], [5, 0, 8, 9, 10, 0]])
    with torch.no_grad(), model.active():
        scores = model.scores(right, mask)
        assert_close(model.scores(left, mask.flip(1)), scores, atol=1e-5, rtol=0)
        for row, length in ((0, 4), (1, 6)):
            alone = right[row : row + 1, :length]
            hidden = trunk.hidden(alone, torch.ones_like(alone, dtype=torch.bool))[0, -1]
            by_hand = 0.5 * (hidden @ model.head.weight[0]) - 1.0
            assert_close(scores[row], by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize("in_line", [True, False])
def test_a_prompt_read_once_gives_the_scores_and_gradients_of_whole_texts(trunk: Trunk, in_line: bool) -> None:
    model = reward_model(trunk)
    assert trunk.reads_lines and model.trunk.reads_lines
    rankings = [
        EncodedRanking([[5, 6, 7, 8, 0], [5, 6, 7, 0], [5, 6, 7]], [1, 2, 3], 3),
        EncodedRanking([[9, 10, 11, 12, 13, 14, 0], [9, 10, 11, 12, 13, 0]], [1, 2], 5),
        EncodedRanking([[4, 5, 0], [4, 0]], [1, 2], 1),  # a prompt of one token
    ]
    texts = [text for ranking in rankings for text in ranking.texts]
    tokens = pad_sequence([torch.tensor(text) for text in texts], True, 99)
    mask = torch.arange(tokens.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]
    weights = torch.arange(1.0, len(texts) + 1)
    with model.trainable() as parameters, model.active():
        whole = model.scores(tokens, mask)
        model.trunk.reads_lines = in_line
        split = model.scores_of(ranking_batch([[each] for each in rankings], 99))
        assert_close(split, whole, atol=1e-5, rtol=0)
        gradients = [torch.autograd.grad(scores @ weights, list(parameters.values())) for scores in (whole, split)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])


def test_value_before_each_token_and_score_at_the_end(trunk: Trunk, prompts: PromptBatch, responses: Responses) -> None:
    """At the start the value model is the reward model: its value of prompt + tokens so far is their score."""
    shelf = Shelf(lambda _: torch.float32, CPU)
    model = reward_model(trunk)
    value = ValueModel(model.trunk, model.adapter, model.head, model.gain, model.bias)
    with torch.no_grad(), model.active():
        values = value.values(prompts, responses)
        before_third = torch.tensor([[40, 41, 42, 43, 44, 70, 71]])
        expected = model.scores(before_third, torch.ones_like(before_third, dtype=torch.bool))
        assert_close(values[0, 2:3], expected, atol=1e-5, rtol=0)
        prompt_only = torch.tensor([[50, 51, 52]])
        expected = model.scores(prompt_only, torch.ones_like(prompt_only, dtype=torch.bool))
        assert_close(values[1, :1], expected, atol=1e-5, rtol=0)
    assert (values[~responses.mask] == 0).all()
    assert shelf.trunks == {}


def test_new_head_has_unit_variance_over_whitened_hidden_states() -> None:
    head = new_head(4096, torch.Generator().manual_seed(0))
    assert abs(float(head.weight.std()) * 4097**0.5 - 1) < 0.05
    assert head.bias is None


@pytest.mark.parametrize("lora", [LORA, FULL], ids=["adapter", "full"])
def test_reward_model_opens_in_stock_transformers_with_the_raw_score(
    trunk: Trunk, tiny_directory: Path, tmp_path: Path, lora: LoraSettings
) -> None:
    model = reward_model(trunk, lora)
    save_scalar(model, tmp_path)
    tokens = torch.tensor([[5, 6, 7, 0, 1, 1], [5, 9, 8, 9, 10, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    with torch.no_grad(), model.active():
        raw = (model.scores(tokens, mask.bool()) + 1.0) / 0.5
    if lora.rank:
        base = AutoModelForSequenceClassification.from_pretrained(tiny_directory, num_labels=1)
        stock = PeftModel.from_pretrained(base, tmp_path).eval()
    else:
        stock = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    found = stock(input_ids=tokens, attention_mask=mask).logits[:, 0].detach()
    assert_close(found, raw, atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token_id == 1


@pytest.mark.parametrize("lora", [LORA, FULL], ids=["adapter", "full"])
def test_value_model_opens_in_stock_transformers(
    trunk: Trunk, tiny_directory: Path, tmp_path: Path, lora: LoraSettings, prompts: PromptBatch, responses: Responses
) -> None:
    reward = reward_model(trunk, lora)
    value = ValueModel(reward.trunk, reward.adapter, reward.head, reward.gain, reward.bias)
    save_scalar(value, tmp_path)
    if lora.rank:
        base = AutoModelForTokenClassification.from_pretrained(tiny_directory, num_labels=1)
        stock = PeftModel.from_pretrained(base, tmp_path).eval()
    else:
        stock = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    row = torch.cat([prompts.tokens[:1], responses.tokens[:1]], dim=1)
    raw = stock(input_ids=row).logits[0, 4:8, 0].detach()  # the states that predict the four response tokens
    with torch.no_grad(), value.active():
        found = value.values(prompts, responses)[0]
    assert_close(found, 0.5 * raw - 1.0, atol=1e-5, rtol=0)


@pytest.fixture
def saved(trunk: Trunk, tmp_path: Path, tiny_directory: Path) -> tuple[str, str]:
    """An SFT run and a reward run, both adapters of the tiny base."""
    from heed.models.policy import save_policy

    trunk.add_adapter("sft", LORA)
    disturb(trunk.adapter_parameters("sft"))
    for name, save in (("sft", lambda path: save_policy(Policy(trunk, "sft"), path)),
                       ("rm", lambda path: save_scalar(reward_model(trunk), path))):  # fmt: skip
        path = tmp_path / name / "checkpoint"
        save(path)
        kind = "policy" if name == "sft" else "reward"
        reward = {"gain": 0.5, "bias": -1.0}
        write_metadata(path, {"kind": kind, "base_hash": trunk.hash, "reward": reward})
    return str(tmp_path / "sft"), str(tmp_path / "rm")


def build(saved: tuple[str, str], lora: LoraSettings) -> tuple[Shelf, Roles]:
    shelf = Shelf(lambda _: torch.float32, CPU)
    return shelf, load_roles(shelf, saved[0], shelf.reward_model(saved[1], "reward"), lora)


def test_four_roles_share_one_trunk(saved: tuple[str, str]) -> None:
    shelf, roles = build(saved, LORA)
    assert len(shelf.trunks) == 1
    assert roles.policy.trunk is roles.reference.trunk is roles.value.trunk


@pytest.mark.parametrize("lora", [LORA, FULL], ids=["one trunk", "separate"])
def test_roles_at_the_start(
    saved: tuple[str, str], lora: LoraSettings, prompts: PromptBatch, responses: Responses
) -> None:
    """policy = reference, and the value of a whole text = its normalised score: to the bit on one trunk."""
    _, roles = build(saved, lora)
    row = torch.tensor([[5, 9, 8, 9, 10, 0]])
    everything = torch.ones_like(row, dtype=torch.bool)
    tolerance = 0 if lora.rank else 2e-5
    with torch.no_grad():
        logprobs = []
        for policy in (roles.policy, roles.reference):
            with policy.active():
                logprobs.append(policy.logprobs(prompts, responses))
        assert_close(*logprobs, atol=tolerance, rtol=0)
        with roles.value.active():
            value_at_end = roles.value.read(roles.value.trunk.hidden(row, everything)[:, -1])
        with roles.reward.active():
            assert_close(value_at_end, roles.reward.scores(row, everything), atol=tolerance, rtol=0)


def test_one_trunk_and_separate_models_are_the_same_functions(
    saved: tuple[str, str], prompts: PromptBatch, responses: Responses
) -> None:
    shared, separate = build(saved, LORA)[1], build(saved, FULL)[1]
    with torch.no_grad():
        for role in ("policy", "reference"):
            a, b = getattr(shared, role), getattr(separate, role)
            with a.active():
                first = a.logprobs(prompts, responses)
            with b.active():
                assert_close(b.logprobs(prompts, responses), first, atol=2e-5, rtol=0)
        with shared.value.active():
            first = shared.value.values(prompts, responses)
        with separate.value.active():
            assert_close(separate.value.values(prompts, responses), first, atol=2e-5, rtol=0)


def test_separate_models_share_no_weight(saved: tuple[str, str]) -> None:
    _, roles = build(saved, FULL)
    owners = [roles.policy.parameters(), roles.value.parameters()]
    addresses = [{p.data_ptr() for p in owner.values()} for owner in owners]
    frozen = {p.data_ptr() for p in roles.reference.trunk.model.parameters()}
    assert not addresses[0] & addresses[1] and not addresses[0] & frozen and not addresses[1] & frozen


def test_a_policy_is_not_a_reward_model(saved: tuple[str, str]) -> None:
    with pytest.raises(CheckpointError, match="is a policy model, not a reward model"):
        open_checkpoint(saved[0], "reward")
    shelf = Shelf(lambda _: torch.float32, CPU)
    with pytest.raises(CheckpointError, match="no scalar head"):
        Path(saved[0], "checkpoint", "heed.json").unlink()
        shelf.reward_model(saved[0], "reward")
