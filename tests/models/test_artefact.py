"""What is saved opens elsewhere, by the code on its own card; what saving needs is asked before."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, OPTConfig, pipeline

from heed.batches import PromptBatch
from heed.data.encode import encode_demonstration, encode_prompt
from heed.data.template import Template
from heed.errors import CheckpointError
from heed.flows import export
from heed.models.artefact import Artefact, TemplateUsed, check_saveable, save_parts
from heed.models.checkpoint import open_checkpoint
from heed.models.lineage import fingerprint
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, ScalarModel, ValueModel, new_head
from heed.records import Demonstration, Turn
from heed.settings.common import LoraSettings
from heed.settings.export import ExportSettings

CPU = torch.device("cpu")
HELLO = Demonstration((Turn("user", "Hi"),), "Hello.")


@pytest.fixture(scope="module")
def opt(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """transformers has no …ForTokenClassification of OPT."""
    path = tmp_path_factory.mktemp("opt")
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=258, hidden_size=32, word_embed_proj_dim=16, do_layer_norm_before=False, ffn_dim=48,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
        pad_token_id=1, init_std=0.3,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(path)
    return path


def model_of(kind: type, base: Path, rank: int) -> Policy | ScalarModel:
    policy = Shelf(lambda _: torch.float32, CPU).policy(str(base), "base")
    body = trained_copy(policy, "trained", LoraSettings(rank=rank))
    head = new_head(body.trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    model = body if kind is Policy else kind(body.trunk, body.adapter, head, 0.5, -1.25)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def artefact(model: Policy | ScalarModel, template: str = "dialogue", **options: Any) -> Artefact:
    found = Template.named(template, model.trunk.tokenizer)
    used = TemplateUsed(found.name, found.hash, found.chat_template)
    told = {"stage": "sft", "template": used, "max_new_tokens": 6}
    if model.adapter is not None:
        told |= {"base": model.trunk.name, "base_hash": model.trunk.hash}
    return Artefact(title="mine", sentence="A model.", settings="seed: 0", made_with={}, **{**told, **options})


def numbers(model: Policy | ScalarModel, template: str) -> Any:
    """What heed says of the text on the card: log-probabilities of the last token, or the head's numbers."""
    tokens = torch.tensor(
        [encode_demonstration(HELLO, Template.named(template, model.trunk.tokenizer), model.trunk.tokenizer).tokens]
    )
    with torch.no_grad(), model.active():
        hidden = model.trunk.hidden(tokens, torch.ones_like(tokens).bool())[0]
        return model.trunk.logits(hidden) if isinstance(model, Policy) else model.read(hidden)


CASES = [
    (kind, base, rank, template)
    for kind, base, template in (
        (Policy, "tiny", "dialogue"), (RewardModel, "tiny", "dialogue"), (ValueModel, "tiny", "dialogue"),
        (RewardModel, "llama", "plain"), (ValueModel, "opt", "dialogue"),
    )
    for rank in (2, 0)
]  # fmt: skip


FORMS = [(2, False), (0, False), (2, True)]
SAVED = ["adapter", "all weights", "merged"]


def saved(model: Policy | ScalarModel, place: Path, merge: bool, **options: Any) -> str:
    """The directory that another library is given: the checkpoint, or what `heed export --merge` makes of it."""
    artefact(model, **options).save(model, place / "checkpoint")
    if not merge:
        return str(place / "checkpoint")
    export.run(ExportSettings(model=str(place / "checkpoint"), output=str(place / "merged")))
    return str(place / "merged")


@pytest.mark.parametrize(("rank", "merge"), FORMS, ids=SAVED)
def test_the_pipeline_of_transformers_answers_as_heed_does(
    rank: int, merge: bool, tiny_directory: Path, tmp_path: Path
) -> None:
    """Greedily, to a message that its own chat template writes and to a prompt that is written out. Of an adapter
    transformers takes the base's tokenizer, which knows no template, unless it is told which."""
    policy = model_of(Policy, tiny_directory, rank)
    assert isinstance(policy, Policy)
    tokenizer = policy.trunk.tokenizer
    asked = encode_prompt(HELLO.prompt, Template.named("dialogue", tokenizer), tokenizer)
    prompts = PromptBatch(torch.tensor([asked]), torch.ones(1, len(asked)).bool())
    drawn = policy.generate(prompts, 12, 0.0, torch.Generator())
    expected = tokenizer.decode(drawn.tokens[0][drawn.mask[0]], skip_special_tokens=True)
    path = saved(policy, tmp_path, merge)
    answers = pipeline("text-generation", model=path, tokenizer=path)
    messages = [{"role": "user", "content": HELLO.prompt[0].content}]
    for prompt in (messages, tokenizer.decode(asked)):
        (found,) = answers(prompt, do_sample=False, max_new_tokens=12, return_full_text=False)
        assert found["generated_text"] == expected != ""


@pytest.mark.parametrize(("rank", "merge"), FORMS, ids=SAVED)
def test_the_pipeline_of_transformers_scores_as_heed_does(
    rank: int, merge: bool, tiny_directory: Path, tmp_path: Path
) -> None:
    """A checkpoint's stock score is the raw one, an exported one's is normalised. Of an adapter transformers takes the
    base's number of labels, which is two, unless it is told how many."""
    model = model_of(RewardModel, tiny_directory, rank)
    normalised = float(numbers(model, "dialogue")[-1])
    tokenizer = model.trunk.tokenizer
    lesson = encode_demonstration(HELLO, Template.named("dialogue", tokenizer), tokenizer)
    path, told = saved(model, tmp_path, merge, stage="reward"), {"num_labels": 1} if rank and not merge else {}
    judge = pipeline("text-classification", model=path, tokenizer=path, model_kwargs=told)
    (found,) = judge([tokenizer.decode(lesson.tokens)], function_to_apply="none")
    expected = normalised if merge else (normalised + 1.25) / 0.5
    assert found["score"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("kind", "base", "rank", "template"), CASES)
def test_the_code_on_a_card_gives_these_numbers_without_heed(
    kind: type, base: str, rank: int, template: str, tiny_directory: Path, llama: Path, opt: Path, tmp_path: Path
) -> None:
    model = model_of(kind, {"tiny": tiny_directory, "llama": llama, "opt": opt}[base], rank)
    artefact(model, template).save(model, tmp_path)
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0].replace("PATH", str(tmp_path))
    if kind is Policy:
        code += f"\nids = {encode_demonstration(HELLO, Template.named(template), model.trunk.tokenizer).tokens}"
        code += "\nimport torch\nprint(model(input_ids=torch.tensor([ids])).logits[0].tolist())"
    code = f"import sys\nsys.modules['heed'] = None\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed, expected = done.stdout.strip().splitlines()[-1], numbers(model, template)
    if kind is Policy:
        assert_close(torch.tensor(json.loads(printed)), expected, atol=1e-4, rtol=1e-5)
    elif kind is RewardModel:
        raw, score = map(float, printed.split())
        assert_close(
            torch.tensor([raw, score]), torch.stack([(expected[-1] + 1.25) / 0.5, expected[-1]]), atol=1e-4, rtol=0
        )
    else:
        prompt = len(encode_prompt(HELLO.prompt, Template.named(template), model.trunk.tokenizer))
        assert_close(torch.tensor(ast.literal_eval(printed)), expected[prompt - 1 :], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rank", [2, 0])
def test_a_value_model_without_a_stock_class_is_told_before_and_read_back(opt: Path, tmp_path: Path, rank: int) -> None:
    value, reward = model_of(ValueModel, opt, rank), model_of(RewardModel, opt, rank)
    told = check_saveable(value)
    assert told is not None and "transformers has no AutoModelForTokenClassification of opt" in told
    assert "score.safetensors" in told and "\n" not in told
    assert check_saveable(reward) is None  # of that there is one
    assert check_saveable(Policy(value.trunk, value.adapter)) is None
    artefact(value, stage="ppo").save(value, tmp_path)
    assert (tmp_path / "score.safetensors").is_file()
    note = tmp_path / "heed.json"
    note.write_text(note.read_text().replace('"kind": "value"', '"kind": "reward"'))  # read by the same function
    again = Shelf(lambda _: torch.float32, CPU).reward_model(str(tmp_path), "again")
    assert torch.equal(again.head.weight, value.head.weight)
    assert_close(numbers(again, "dialogue"), numbers(value, "dialogue"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rank", [2, 0])
def test_a_whole_reward_model_with_an_output_layer_of_its_own_is_read_back(
    llama: Path, tmp_path: Path, rank: int
) -> None:
    """Its stock class has no output layer, and what stands on it is no language model."""
    model = model_of(RewardModel, llama, rank)
    artefact(model, stage="reward").save(model, tmp_path)
    shelf = Shelf(lambda _: torch.float32, CPU)
    again = shelf.reward_model(str(tmp_path), "again")
    assert_close(numbers(again, "dialogue"), numbers(model, "dialogue"), atol=1e-5, rtol=0)
    if rank == 0:
        value = trained_copy(Policy(again.trunk), "value", LoraSettings(rank=2))
        assert value.trunk.hash == Shelf(lambda _: torch.float32, CPU).reward_model(str(tmp_path), "x").trunk.hash


def test_a_head_with_a_bias_counts_it(llama: Path, tmp_path: Path) -> None:
    """A classifier made elsewhere may add a number to every score."""
    model = model_of(RewardModel, llama, 2)
    artefact(model, stage="reward").save(model, tmp_path)
    from safetensors.torch import load_file, save_file

    file = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.score.bias": torch.tensor([3.0])}, file)
    again = Shelf(lambda _: torch.float32, CPU).reward_model(str(tmp_path), "again")
    assert_close(numbers(again, "dialogue"), numbers(model, "dialogue") + 0.5 * 3, atol=1e-5, rtol=0)


def test_what_transformers_refuses_to_save_of_the_base_kills_no_save(tiny_directory: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_directory, tmp_path / "base"))
    told = {"do_sample": False, "temperature": 0.9, "top_p": 0.6, "repetition_penalty": 1.3, "eos_token_id": [0, 70]}
    (base / "generation_config.json").write_text(json.dumps(told))
    for rank in (2, 0):
        policy, reward = model_of(Policy, base, rank), model_of(RewardModel, base, rank)
        for model in (policy, reward):
            assert check_saveable(model) is None
        artefact(policy).save(policy, tmp_path / f"policy{rank}")
        artefact(reward).save(reward, tmp_path / f"reward{rank}")
        saved = json.loads((tmp_path / f"policy{rank}" / "generation_config.json").read_text())
        assert (saved["do_sample"], saved["temperature"], saved["top_k"], saved["top_p"]) == (True, 1.0, 0, 1.0)
        assert saved["eos_token_id"] == 0 and "repetition_penalty" not in saved


def test_stock_generate_ends_where_heed_does(tiny_directory: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_directory, tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|pad|>"]})
    tokenizer.save_pretrained(base)
    GenerationConfig(eos_token_id=[0, 1]).save_pretrained(base)
    policy = model_of(Policy, base, 2)
    artefact(policy).save(policy, tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == [0, 1]


@pytest.mark.parametrize("begins", [False, True], ids=["no beginning", "beginning"])
@pytest.mark.parametrize("template", ["dialogue", "alpaca"])
def test_stock_templates_give_the_ids_that_were_trained_on(
    tiny_directory: Path, tmp_path: Path, template: str, begins: bool
) -> None:
    """Twice over: a model that was trained from what was saved is saved alike."""
    from tokenizers import processors

    base = Path(shutil.copytree(tiny_directory, tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.bos_token = "!"
    if begins:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="! $A", special_tokens=[("!", tokenizer.convert_tokens_to_ids("!"))]
        )
    tokenizer.save_pretrained(base)
    for name in ("first", "second"):
        policy = model_of(Policy, base, 0)
        artefact(policy, template).save(policy, tmp_path / name)
        stock, ours = AutoTokenizer.from_pretrained(tmp_path / name), policy.trunk.tokenizer
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
        lesson = encode_demonstration(HELLO, Template.named(template), ours)
        assert (lesson.tokens[0] == 2) == begins
        asked = stock.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
        assert asked == encode_prompt(HELLO.prompt, Template.named(template), ours)
        whole = stock.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        assert whole["input_ids"] == lesson.tokens
        assert whole["assistant_masks"] == [int(i >= lesson.response_start) for i in range(len(lesson.tokens))]
        base = tmp_path / name


def test_the_revision_of_a_base_from_the_hub_is_said(tiny_directory: Path, tmp_path: Path) -> None:
    """A name alone may mean other weights tomorrow."""
    model = model_of(Policy, tiny_directory, 2)
    written = artefact(model, base="gpt2", base_hash="x")
    written.save(model, tmp_path / "local")
    assert "base_revision" not in open_checkpoint(str(tmp_path / "local")).metadata
    model.trunk.model.config._commit_hash = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    written.save(model, tmp_path / "hub")
    assert open_checkpoint(str(tmp_path / "hub")).metadata["base_revision"].startswith("607a30d")
    assert (
        "`gpt2` at revision `607a30d783dfa663caf39e06633721c8d4cfcd7e`" in (tmp_path / "hub" / "README.md").read_text()
    )


def test_one_part_that_cannot_be_saved_takes_no_other_with_it(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("half")
        raise OSError(5, "Input/output error")

    def fine(path: Path) -> None:
        path.mkdir(exist_ok=True)
        (path / "weights").write_text("all")

    parts: dict[Path, Callable[[Path], None]] = {tmp_path: fine, tmp_path / "ema": broken, tmp_path / "value": fine}
    (failure,) = save_parts(parts)
    assert isinstance(failure, CheckpointError) and "Input/output error" in failure.what
    assert (tmp_path / "weights").is_file() and (tmp_path / "value" / "weights").is_file()
    assert not (tmp_path / "ema" / "half").exists()


def test_a_full_disk_stops_the_run_instead(tmp_path: Path) -> None:
    """It goes on from its state when there is room; a checkpoint without a part would be another run's."""

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_parts({tmp_path / "value": full})


def test_a_checkpoint_says_what_it_was_trained_from(tiny_directory: Path, tmp_path: Path) -> None:
    start = open_checkpoint(str(tiny_directory))
    model = model_of(RewardModel, tiny_directory, 2)
    artefact(model, start=start, stage="reward", notes={"reward": {"n": 7}}).save(model, tmp_path)
    note = open_checkpoint(str(tmp_path)).metadata
    assert note["from"] == {"name": tiny_directory.name, "stage": None, "fingerprint": fingerprint(start)}
    assert note["reward"] == {"n": 7, "gain": 0.5, "bias": -1.25}
