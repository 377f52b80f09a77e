from __future__ import annotations

import math
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from heed import cli, config
from heed.errors import ConfigError
from heed.settings.common import DataSettings, DecaySettings
from heed.settings.evaluate import ChatSettings, EvaluateSettings
from heed.settings.ppo import PPOSettings
from heed.settings.sft import SFTSettings

STAGES = {name: cli.settings_of(command) for name, command in cli.COMMANDS.items()}
NEEDED = ("--model", "gpt2", "--output", "runs/x")


def recipe(tmp_path: Path, text: str, name: str = "x.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def mistake(model: type[BaseModel], *arguments: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(model, arguments)
    assert str(caught.value).count("\n") == 1, "two lines: what is wrong, and a hint"
    return caught.value


class TestRecipesAndFlags:
    def test_flags_lie_over_the_recipe_which_lies_over_the_defaults(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, "model: gpt2\noutput: runs/x\nsteps: 7\nepochs: 3\nlora: {rank: 4}\n")
        loaded = config.load(PPOSettings, [path, "--steps", "9", "--lora.alpha", "8"])
        assert (loaded.steps, loaded.epochs, loaded.batch) == (9, 3, 64)
        assert (loaded.lora.rank, loaded.lora.alpha) == (4, 8.0)

    def test_a_group_given_in_part_keeps_the_stages_own_defaults(self) -> None:
        """PPO's optimiser is constant at 3e-5; one flag must not bring the general cosine back."""
        loaded = config.load(PPOSettings, [*NEEDED, "--optimizer.learning_rate", "1e-6"])
        assert loaded.optimizer == DecaySettings(learning_rate=1e-6, schedule="constant", eps=1e-5)
        built = PPOSettings.model_validate({"model": "m", "output": "o", "optimizer": {"learning_rate": 1e-6}})
        assert built.optimizer == loaded.optimizer

    @pytest.mark.parametrize("flag", [["--validation", ""], ["--validation="]])
    def test_no_file_takes_what_the_recipe_says_of_its_rows_with_it(self, tmp_path: Path, flag: list[str]) -> None:
        path = recipe(tmp_path, "validation: {path: hub/data, split: test, sources: [a]}\ndata: {path: d, limit: 3}\n")
        needed = [path, "--model", "gpt2", "--output", "o"]
        assert config.load(SFTSettings, [*needed, *flag]).validation == DataSettings()
        other = config.load(SFTSettings, [*needed, "--validation", "b", "--data", "e"])
        assert other.validation == DataSettings(path="b", split="test", sources=("a",)) and other.data.limit == 3

    def test_flag_spellings(self) -> None:
        spellings = (["--gae_lambda", "0.5"], ["--gae-lambda", "0.5"], ["--gae_lambda=0.5"], ["--gae-lambda=.5"])
        assert {config.load(PPOSettings, [*NEEDED, *flag]).gae_lambda for flag in spellings} == {0.5}
        assert config.load(PPOSettings, [*NEEDED, "--overwrite"]).overwrite
        assert not config.load(PPOSettings, [*NEEDED, "--overwrite", "false"]).overwrite
        assert config.load(PPOSettings, [*NEEDED, "--steps", "5", "--steps", "6"]).steps == 6

    def test_lists_take_several_values_or_yaml(self) -> None:
        assert config.load(PPOSettings, [*NEEDED, "--ptx.text", "a.txt", "b.txt"]).ptx.text == ("a.txt", "b.txt")
        assert config.load(PPOSettings, [*NEEDED, "--ptx.text", "[a.txt, b.txt]"]).ptx.text == ("a.txt", "b.txt")
        assert config.load(PPOSettings, [*NEEDED, "--optimizer.betas", "0.8", "0.9"]).optimizer.betas == (0.8, 0.9)

    def test_mappings_keep_their_own_keys(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, "output: runs/x\nmodels: {sft: runs/sft}\n")
        loaded = config.load(EvaluateSettings, [path, "--models.ppo-v2", "runs/ppo"])
        assert loaded.models == {"sft": "runs/sft", "ppo-v2": "runs/ppo"}

    def test_text_stays_text(self) -> None:
        """What YAML would read as a number, a switch or nothing is a path when the setting is text."""
        for text in ("2024", "1e5", "no", "null", "a: b", "[x"):
            assert config.load(SFTSettings, ["--model", text, "--output", "o"]).model == text

    @pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-4", "'1e-4'"])
    def test_scientific_notation(self, tmp_path: Path, written: str) -> None:
        path = recipe(tmp_path, f"model: m\noutput: o\noptimizer: {{learning_rate: {written}}}\n")
        assert config.load(SFTSettings, [path]).optimizer.learning_rate == 0.0001
        assert (
            config.load(SFTSettings, [*NEEDED, "--optimizer.learning_rate", written]).optimizer.learning_rate == 0.0001
        )

    def test_a_plain_string_is_short_for_a_data_groups_path(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, "model: m\noutput: o\ndata: rows.jsonl\n")
        assert config.load(SFTSettings, [path]).data == DataSettings(path="rows.jsonl")
        limited = config.load(SFTSettings, [path, "--data.limit", "5"])
        assert limited.data == DataSettings(path="rows.jsonl", limit=5)
        other = config.load(SFTSettings, [path, "--data.limit", "5", "--data", "other.jsonl"])
        assert other.data == DataSettings(path="other.jsonl", limit=5)
        assert SFTSettings(model="m", output="o", data="rows.jsonl").data.path == "rows.jsonl"  # type: ignore[arg-type]

    def test_sections_and_positionals(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, "sft: {model: a, output: o}\nppo: {model: b, output: p, steps: 3}\n")
        assert config.load(PPOSettings, [path], section="ppo").steps == 3
        assert config.load(SFTSettings, [path], section="sft").model == "a"
        assert config.load(ChatSettings, ["runs/a", "runs/b", "--seed", "1"], positional="models").models == (
            "runs/a",
            "runs/b",
        )


class TestVariables:
    TEXT = (
        "set: {data: /data, hh: '${data}/hh', n: 5}\nmodel: m\noutput: o\n"
        "validation: {path: held-out.jsonl, limit: '${n}'}\ndata: ${hh}/x\n"
    )

    def test_they_are_replaced_in_strings_and_overridden_by_flags(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, self.TEXT)
        assert config.load(SFTSettings, [path]).data.path == "/data/hh/x"
        assert config.load(SFTSettings, [path]).validation.limit == 5
        moved = config.load(SFTSettings, [path, "--set.data", "/mnt", "--set.n", "6"])
        assert (moved.data.path, moved.validation.limit) == ("/mnt/hh/x", 6)

    def test_two_dollars_are_the_text_itself(self, tmp_path: Path) -> None:
        assert config.load(SFTSettings, [recipe(tmp_path, "model: $${x}\noutput: o\n")]).model == "${x}"

    def test_mistakes(self, tmp_path: Path) -> None:
        path = recipe(tmp_path, "set: {data: ~}\nmodel: ${dta}\noutput: o\n")
        assert "did you mean data?" in mistake(SFTSettings, path).hint
        assert mistake(SFTSettings, path, "--set.dta", "x").where == "--set.dta"
        needed = recipe(tmp_path, "set: {data: ~}\nmodel: ${data}\noutput: o\n")
        assert mistake(SFTSettings, needed).hint == "add --set.data VALUE"
        assert config.load(SFTSettings, [needed, "--set.data", "x"]).model == "x"
        assert mistake(SFTSettings, *NEEDED, "--set.data", "x").what == "unknown variable"
        assert mistake(SFTSettings, recipe(tmp_path, "set: 5")).what == "holds no variables"


FILES = {
    # recipe's text, where, what, hint (each a part of what is said)
    "unknown": ("lora: {rnk: 4}", "x.yaml: lora.rnk", "unknown setting", "did you mean lora.rank?"),
    "elsewhere": ("rank: 4", "x.yaml: rank", "unknown setting", "did you mean lora.rank?"),
    "unlike": ("zzzz: 4", "x.yaml: zzzz", "unknown setting", "settings here: output, overwrite"),
    "type": ("epochs: many", "x.yaml: epochs", "'many' should be a valid number", "passes over the data"),
    "switch": ("batch: yes", "x.yaml: batch", "should be a number, not a switch", "demonstrations a step"),
    "range": ("epochs: 0", "x.yaml: epochs", "0 should be greater than 0", "passes over the data"),
    "infinite": ("epochs: .inf", "x.yaml: epochs", "should be a finite number", "passes"),
    "choice": ("template: dialog", "x.yaml: template", "'dialog' should be 'dialogue', 'alpaca'", "how a prompt"),
    "number": ("model: 2024", "x.yaml: model", "2024 should be a valid string", "put it in quotes"),
    "group": ("lora: 5", "x.yaml: lora", "5 should be", "lora"),
    "missing": ("output: o", "x.yaml: model", "is required", "--model VALUE"),
    "list": ("- model", "x.yaml", "holds no settings", "name: value"),
    "yaml": ("model: m\nlora: {rank: 4\n", "x.yaml:3", "cannot be read as YAML", "that line"),
    "twice": ("epochs: 1\nepochs: 2\n", "x.yaml:2", "epochs is given twice", "that line"),
}  # fmt: skip
FLAGS = {
    "unknown": (["--learning-rte", "1"], "--learning-rte", "unknown setting", "optimizer.learning_rate"),
    "inside": (["--lora.rnk", "1"], "--lora.rnk", "unknown setting", "did you mean lora.rank?"),
    "no group": (["--epochs.x", "1"], "--epochs.x", "unknown setting", "there are no settings here"),
    "type": (["--epochs", "abc"], "--epochs", "'abc' should be a valid number", "passes over the data"),
    "inside type": (["--lora.rank", "2.5"], "--lora.rank", "2.5 should be a valid integer", "rank of each update"),
    "mapping": (["--lora", "{rank: x}"], "--lora.rank", "'x' should be a valid integer", "rank of each update"),
    "no value": (["--epochs"], "--epochs", "takes one value, not none", "--epochs VALUE"),
    "two values": (["--epochs", "1", "2"], "--epochs", "takes one value, not 1 2", "--epochs VALUE"),
    "unreadable": (["--optimizer.betas", "[0.9"], "--optimizer.betas", "cannot read '[0.9'", "quote it"),
    "pair": (["--optimizer.betas", "0.9", "0.9", "0.9"], "--optimizer.betas", "at most 2 items", "Adam"),
    "plain group": (["--lora", "4"], "--lora", "is not a group", "name: value"),
}  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize("dash", config.DASHES)
    def test_a_dash_of_a_word_processor(self, dash: str) -> None:
        """As commands look after they went through a chat or a document."""
        with pytest.raises(ConfigError, match="no hyphen") as told:
            config.load(PPOSettings, [*NEEDED, f"{dash}steps", "3"])
        assert told.value.hint == "write --steps" and told.value.where == f"{dash}steps"
        words = f"{dash} is a dash"
        assert config.load(ChatSettings, [words], positional="models").models == (words,)

    def test_a_name_with_a_line_end_is_told_in_two_lines(self) -> None:
        assert str(ConfigError("a\n", "is not there", "look again")) == "a\\n: is not there\nhint: look again"

    @pytest.mark.parametrize(("text", "where", "what", "hint"), FILES.values(), ids=FILES)
    def test_in_a_recipe(self, tmp_path: Path, text: str, where: str, what: str, hint: str) -> None:
        error = mistake(SFTSettings, recipe(tmp_path, text))
        assert error.where == f"{tmp_path}/{where}"
        assert what in error.what
        assert hint in error.hint

    @pytest.mark.parametrize(("flags", "where", "what", "hint"), FLAGS.values(), ids=FLAGS)
    def test_in_a_flag(self, tmp_path: Path, flags: list[str], where: str, what: str, hint: str) -> None:
        for arguments in ([*NEEDED, *flags], [recipe(tmp_path, "model: m\noutput: o\n"), *flags]):
            error = mistake(SFTSettings, *arguments)
            assert error.where == where
            assert what in error.what
            assert hint in error.hint

    def test_without_a_recipe_a_missing_setting_is_a_flag(self) -> None:
        assert mistake(SFTSettings, "--output", "o").where == "--model"

    def test_a_recipe_that_is_not_there(self, tmp_path: Path) -> None:
        there = recipe(tmp_path, "", "sft.yaml")
        for path in (tmp_path / "stf.yaml", tmp_path):
            error = mistake(SFTSettings, str(path))
            assert (error.where, error.what, error.hint) == (str(path), "no such recipe file", f"there is {there}")

    def test_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
        assert "cannot be read as YAML" in mistake(SFTSettings, str(tmp_path / "x.yaml")).what

    def test_a_second_positional(self, tmp_path: Path) -> None:
        assert mistake(SFTSettings, recipe(tmp_path, ""), "more.yaml").where == "more.yaml"

    def test_settings_are_frozen(self) -> None:
        loaded = config.load(SFTSettings, NEEDED)
        with pytest.raises(ValidationError, match="frozen"):
            loaded.seed = 1  # type: ignore[misc]


def values_of(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Any value that a setting of this type and these bounds accepts."""
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    bounds = {name: getattr(bound, name) for bound in metadata for name in names if hasattr(bound, name)}
    patterns = [bound.pattern for bound in metadata if getattr(bound, "pattern", None)]
    if config.is_group(annotation):
        return instances_of(annotation)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(bounds.get("ge", 0), bounds.get("le", 10**9))
    if annotation is float:
        low, high = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", bounds.get("lt", 1e9))
        return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds)
    if patterns:
        return st.from_regex(patterns[0], fullmatch=True)
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) is tuple:
        inner, *rest = get_args(annotation)
        if rest != [...]:
            return st.tuples(*(values_of(part, []) for part in (inner, *rest)))
        sizes = {"min_size": bounds.get("min_length", 0), "max_size": bounds.get("max_length", 3)}
        return st.lists(values_of(inner, []), **sizes).map(tuple)
    if get_origin(annotation) is dict:
        return st.dictionaries(TEXT, TEXT, min_size=bounds.get("min_length", 0), max_size=3)
    if isinstance(annotation, types.UnionType):
        return st.one_of(*(values_of(part, metadata) for part in get_args(annotation)))
    assert annotation in (str, type(None)), f"teach this test about {annotation}"
    return TEXT if annotation is str else st.none()


AWKWARD = "no|1e-4|1_0e5|~|${x}|$${x}|$$${x}|${|a: b| x |2024-01-01|12:30|x\ny|=|<<|".split("|")
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(AWKWARD)


def instances_of(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    fields = {name: values_of(field.annotation, field.metadata) for name, field in model.model_fields.items()}
    if model is DataSettings:  # rows of nowhere are refused
        fields["path"] = TEXT.filter(bool)
    return st.fixed_dictionaries(fields).map(lambda values: model.model_validate(values))


@pytest.mark.parametrize("name", STAGES)
@given(data=st.data())
def test_dump_and_load_give_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    settings = data.draw(instances_of(STAGES[name]))
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(config.dump(settings), encoding="utf-8")
    assert config.load(STAGES[name], [str(path)]) == settings


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_says_what_it_means(name: str) -> None:
    for setting, field in config.fields(STAGES[name]):
        assert field.description or config.is_group(field.annotation), f"{setting} has no description"
        assert not isinstance(field.default, float) or math.isfinite(field.default)


def test_a_stage_without_dropout_may_be_told_so(tmp_path: Path) -> None:
    text = "model: m\noutput: o\nlora: {rank: 8, dropout: %s}\n"
    loaded = config.load(PPOSettings, [recipe(tmp_path, text % 0.0)])
    assert loaded.lora.model_dump() == {"rank": 8, "alpha": 32.0, "targets": ()}
    with pytest.raises(ConfigError, match=r"lora\.dropout: unknown setting"):
        config.load(PPOSettings, [recipe(tmp_path, text % 0.1)])
    assert config.load(SFTSettings, [recipe(tmp_path, text % 0.1)]).lora.dropout == 0.1
