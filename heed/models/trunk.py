"""One transformer and the adapters injected into it.

Which adapter a forward pass uses is decided by a context (`with trunk.active(name)`), never by lasting state:
peft's own `set_adapter` also flips `requires_grad`, and called between a forward and its backward pass it silently
drops every gradient. Backpropagate inside the context in which the forward pass ran.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from heed.errors import CheckpointError
from heed.models.activations import fuse_gelu
from heed.models.adapter import HEADS, PREFIX, adapter_config, check_experts, check_tensors, linear_targets
from heed.models.attention import attends_lines, quicken_attention
from heed.models.checkpoint import ADAPTER_WEIGHTS, Checkpoint, weights_hash
from heed.models.files import read_tensors
from heed.models.fused_lora import fuse, merged_weight
from heed.models.line import states_in_line, states_on_the_left
from heed.models.load import context_length, load_causal_lm, load_tokenizer, vocabulary_size, without_dropout
from heed.models.probe import check_forward, reads_lines
from heed.models.reader import Reader
from heed.models.readout import PackedHead, probe_tokens, readout_of
from heed.models.recompute import recompute_layers, recomputes
from heed.models.vocabulary import stop_ids
from heed.rows.threads import RowThreads, fitting
from heed.settings.common import AdapterSettings, LoraSettings


class Trunk:
    """A causal transformer with any number of named adapters; `None` names the weights without an adapter."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, headless: bool = False
    ) -> None:
        self.model, self.tokenizer, self.name, self.headless = model, tokenizer, name, headless
        self.body: nn.Module = model.base_model
        fuse_gelu(model)
        quicken_attention(model)
        self.head = readout_of(model)
        self.model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        self.stop_ids = stop_ids(tokenizer, [model.generation_config], self.vocabulary)
        # A base's own may hold what transformers refuses to save, and sampling settings that are not ours.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self.stop_ids))
        self.adapters: dict[str, LoraConfig] = {}
        self._takes_positions = "position_ids" in inspect.signature(self.body.forward).parameters
        self.reads_lines = self._takes_positions and attends_lines(model)
        self.reads_lines = self.reads_lines and reads_lines(self)
        self._hash: str | None = None

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, headless: bool = False) -> Trunk:
        """The frozen weights that a checkpoint stands on: its base if it is an adapter, itself otherwise.

        `headless`: it need not predict tokens, as a reward model. Raises `CheckpointError` where it is not read here
        as stock transformers reads it.
        """
        model, lacks_head = load_causal_lm(checkpoint.weights, dtype, device, headless)
        trunk = cls(model, load_tokenizer(checkpoint.path), checkpoint.weights, lacks_head)
        check_forward(trunk)
        return trunk

    @cached_property
    def width(self) -> int:
        """Numbers in a last hidden state: OPT's smallest embeds in fewer than its layers have."""
        with torch.no_grad():
            return int(self.body(input_ids=probe_tokens(self.model), use_cache=False).last_hidden_state.shape[-1])

    @property
    def vocabulary(self) -> int:
        """Tokens that the model gives a logit for: often a few more than its tokenizer knows."""
        return vocabulary_size(self.model.config)

    @property
    def context(self) -> int:
        """Tokens that the model can see at most."""
        return context_length(self.model.config, self.tokenizer)

    @property
    def reader(self) -> Reader:
        """How it reads, but for the template."""
        return Reader(self.name, None, self.tokenizer, self.vocabulary, self.context)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @cached_property
    def threads(self) -> RowThreads:
        """Threads for the rows of what is drawn and scored."""
        return RowThreads(fitting(self.model))

    @property
    def hash(self) -> str:
        """Hash of the frozen weights; an adapter fits only the trunk that it was trained on."""
        if self._hash is None:
            self._hash = weights_hash(self.model)
        return self._hash

    # --- adapters -----------------------------------------------------------------------------------------------

    def add_adapter(self, name: str, lora: AdapterSettings) -> None:
        """Inject a fresh adapter: A random, B zero, so that the output does not change yet."""
        targets = list(lora.targets) or linear_targets(self.model)
        transposed = any(type(module).__name__ == "Conv1D" for module in self.model.modules())  # GPT-2's linear layers
        self._inject(
            name,
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout if isinstance(lora, LoraSettings) else 0.0,
                target_modules=targets,
                fan_in_fan_out=transposed,
            ),
        )

    def attach(self, name: str, checkpoint: Checkpoint, head: bool = False) -> None:
        """Inject the adapter of a checkpoint; `head`: a scalar head may travel with it. Raises `CheckpointError` if it
        was trained on other weights, or does more than stock LoRA."""
        trained_on = checkpoint.metadata.get("base_hash")
        if trained_on is not None and trained_on != self.hash:
            raise CheckpointError(
                checkpoint.name,
                f"its adapter was trained on weights {trained_on}, but {self.name} holds {self.hash}",
                "use the base model that the adapter was trained on",
            )
        config = adapter_config(checkpoint, head)
        check_tensors(checkpoint, self.model, head)
        state = read_tensors(Path(checkpoint.path) / ADAPTER_WEIGHTS)
        named = {key.removeprefix(PREFIX): value for key, value in state.items()}
        tensors = {key: value for key, value in named.items() if not (head and key.partition(".")[0] in HEADS)}
        self._inject(name, config)
        given = self.adapter_parameters(name)
        if missing := [key for key in given if key.replace(f".{name}.", ".") not in tensors]:
            told = f"its adapter has no weights for {missing[0].replace(f'.{name}.', '.')}"
            raise CheckpointError(checkpoint.name, told, "copy or train the adapter again")
        set_peft_model_state_dict(self.model, tensors, adapter_name=name)

    def copy_adapter(self, source: str, name: str) -> None:
        """A second adapter with the same A and B, bit for bit."""
        self._inject(name, self.adapters[source])
        for layer in self.layers():
            for matrices in (layer.lora_A, layer.lora_B):
                if source in matrices:
                    matrices[name].weight.data.copy_(matrices[source].weight.data)

    def save_adapter(
        self, name: str, path: Path, task: str, head: str = "", head_state: dict[str, Tensor] | None = None
    ) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors` in peft's own layout; `head` names the module
        of a scalar head that travels with the adapter."""
        tensors = {**get_peft_model_state_dict(self.model, adapter_name=name), **(head_state or {})}
        named = {PREFIX + key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        config = LoraConfig(**{**self.adapters[name].to_dict(), "task_type": task or None, "inference_mode": True})
        config.base_model_name_or_path = self.name if not Path(self.name).is_dir() else str(Path(self.name).resolve())
        config.modules_to_save = [head] if head else None
        if isinstance(config.target_modules, set):  # whose order is another in every process
            config.target_modules = sorted(config.target_modules)
        path.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(path))
        save_file(named, path / "adapter_model.safetensors", metadata={"format": "pt"})

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The A and B of one adapter, by the name that its file uses."""
        wanted = re.compile(rf"\.lora_[AB]\.{re.escape(name)}\.")
        return {key: value for key, value in self.model.named_parameters() if wanted.search(key)}

    def layers(self) -> Iterator[LoraLayer]:
        return (module for module in self.model.modules() if isinstance(module, LoraLayer))

    @contextmanager
    def active(self, name: str | None) -> Iterator[None]:
        """Use one adapter (None: no adapter) in every forward pass inside the block."""
        before = [(layer, layer._active_adapter) for layer in self.layers()]
        for layer, _ in before:
            layer._active_adapter = [] if name is None else [name]
        try:
            yield
        finally:
            for layer, adapters in before:
                layer._active_adapter = adapters

    @contextmanager
    def merged(self, name: str | None) -> Iterator[None]:
        """Fold one adapter into a copy of the weights for the block: faster sampling. The originals are put back
        by reference, so not a bit of them changes (merging and unmerging in place would)."""
        if name is None:
            with self.active(None):
                yield
            return
        layers = [layer for layer in self.layers() if name in layer.lora_A]
        originals = [layer.get_base_layer().weight.data for layer in layers]
        with self.active(None):
            for layer in layers:
                layer.get_base_layer().weight.data = merged_weight(layer, name)
            try:
                yield
            finally:
                for layer, weight in zip(layers, originals, strict=True):
                    layer.get_base_layer().weight.data = weight

    def merged_copy(self, name: str | None) -> Trunk:
        """A trunk of its own with one adapter folded into float32 weights: for full fine-tuning and export.

        Weights that are held in fewer bits are read again, so that what is trained does not begin rounded.
        """
        config = type(self.model.config).from_dict(self.model.config.to_dict())
        if self.model.dtype == torch.float32:
            model = type(self.model)(config).to(self.device, torch.float32).eval()
            model.load_state_dict(self.plain_state())
        else:
            model, _ = load_causal_lm(self.name, torch.float32, self.device, self.headless)
        with torch.no_grad():
            for path, layer in self.model.named_modules():
                if isinstance(layer, LoraLayer) and name is not None and name in layer.lora_A:
                    model.get_submodule(path).weight += layer.get_delta_weight(name)
        copied = Trunk(without_dropout(model).requires_grad_(False), self.tokenizer, self.name, self.headless)
        copied.stop_ids = self.stop_ids
        if recomputes(self.model):
            recompute_layers(model)
        copied._hash = self.hash  # what it stands on, whatever is trained into it
        return copied

    def plain_state(self) -> dict[str, Tensor]:
        """The weights by the names of a model without adapters."""
        state = {key: value for key, value in self.model.state_dict().items() if ".lora_" not in key}
        return {key.replace(".base_layer.", "."): value for key, value in state.items()}

    def _inject(self, name: str, config: LoraConfig) -> None:
        check_experts(config, self.model, self.name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are the point
            inject_adapter_in_model(config, self.model, adapter_name=name)
        fuse(self.model)
        self.adapters[name] = self.model.peft_config[name]
        body = f"{self.model.base_model_prefix}."
        lora = [path for path, layer in self.model.named_modules() if isinstance(layer, LoraLayer)]
        if outside := [path for path in lora if not path.startswith(body)]:
            told = f"an adapter of {type(self.model).__name__} would change {outside[0]}, no part of the transformer"
            raise CheckpointError(self.name, told, "name the layers to adapt: lora.targets")
        self.model.requires_grad_(False).eval()  # an adapter comes with its dropout on
        for parameter in self.adapter_parameters(name).values():
            parameter.data = parameter.data.float()

    # --- forward ------------------------------------------------------------------------------------------------

    def hidden(
        self, tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], cache: Cache | None = None
    ) -> Float[Tensor, "batch new width"]:
        """Last hidden states. Positions come from the mask: GPT-2 has learned absolute positions, and a left-padded
        row would otherwise be read as if it began later.

        With a `cache`, `tokens` holds the new tokens only and `mask` covers the cached ones too.
        """
        if cache is None:
            found = states_in_line(self.body, tokens, mask) if self.reads_lines else None
            if found is not None:
                return found
            if not mask.all():
                return states_on_the_left(self.hidden, tokens, mask)
        told = {}
        if self._takes_positions:
            told["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        output = self.body(
            input_ids=tokens,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=cache is not None,
            **told,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens vocab"]:
        """Logits in float32, as the model's own forward makes them. `hidden` is flat and contiguous: a slice of a batch
        would be multiplied row by row."""
        found: Tensor = self.head(hidden if isinstance(self.head, PackedHead) else hidden.float())
        return found
