"""Keys and values of what was read, with room for what is to come."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values with room for what is to come: the stock layer copies the whole cache at every token."""

    keys: Tensor
    values: Tensor
    is_initialized: bool

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            batch, heads, _, size = key_states.shape
            self.dtype, self.device = key_states.dtype, key_states.device
            self.all_keys = key_states.new_empty(batch, heads, self.room, size)
            self.all_values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
            self.is_initialized = True
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self._show(end)
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep some rows, in the given order; a row may be named more than once."""
        self.all_keys, self.all_values = self.all_keys[rows], self.all_values[rows]
        self._show(self.length)

    def _show(self, length: int) -> None:
        self.length = length
        self.keys, self.values = self.all_keys[:, :, :length], self.all_values[:, :, :length]


def roomy_cache(model: PreTrainedModel, room: int) -> DynamicCache:
    """An empty cache for `room` tokens. All of them are kept: a sliding window is the mask's business."""
    cache = DynamicCache()
    cache.layers = [RoomyLayer(room) for _ in range(model.config.get_text_config().num_hidden_layers)]
    return cache


def select(cache: DynamicCache, rows: Tensor) -> None:
    """Keep some rows of a roomy cache, in the given order; a row may be named more than once."""
    for layer in cache.layers:
        layer.select(rows)
