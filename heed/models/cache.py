"""Keys and values of what was read, with room for what is to come."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

GROWTH = 64  # tokens of room that are added where it is used up


class RoomyLayer(DynamicLayer):
    """Keys and values with room for what is to come: the stock layer copies the whole cache at every token.

    What is shown is the beginning of contiguous `[rows, heads, room, size]` tensors that are 0 where nothing was read.
    """

    keys: Tensor
    values: Tensor
    is_initialized: bool

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length, self.rows = room, 0, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self._begin(key_states, value_states, len(key_states))
        if end > self.room:
            self._grow(end)
        self.all_keys[: self.rows, :, self.length : end] = key_states
        self.all_values[: self.rows, :, self.length : end] = value_states
        self._show(end)
        return self.keys, self.values

    def place(self, keys: Tensor, values: Tensor, places: Tensor, rows: int, width: int) -> None:
        """Rows that were read elsewhere, at the right end of the first `width` tokens; `places[i]` are the rows, of
        `rows` in all, that row i goes to."""
        if not self.is_initialized:
            self._begin(keys, values, rows)
        start, copies = width - keys.shape[-2], places.shape[1]
        self.all_keys[places.flatten(), :, start:width] = keys.repeat_interleave(copies, dim=0)
        self.all_values[places.flatten(), :, start:width] = values.repeat_interleave(copies, dim=0)
        self._show(width)

    def move(self, sources: Tensor, targets: Tensor, rows: int) -> None:
        """Copy some rows over others, and keep the first `rows`: what stays where it is costs nothing."""
        self.all_keys[targets], self.all_values[targets] = self.all_keys[sources], self.all_values[sources]
        self.rows = rows
        self._show(self.length)

    def _begin(self, keys: Tensor, values: Tensor, rows: int) -> None:
        self.dtype, self.device, self.rows, heads = keys.dtype, keys.device, rows, keys.shape[1]
        self.all_keys = keys.new_zeros(rows, heads, self.room, keys.shape[-1])
        self.all_values = values.new_zeros(rows, heads, self.room, values.shape[-1])
        self.is_initialized = True

    def _grow(self, end: int) -> None:
        self.room = max(end, self.room + GROWTH)
        for name in ("all_keys", "all_values"):
            kept = getattr(self, name)[: self.rows]
            grown = kept.new_zeros(*kept.shape[:2], self.room, kept.shape[-1])
            grown[:, :, : self.length] = kept[:, :, : self.length]
            setattr(self, name, grown)

    def _show(self, length: int) -> None:
        self.length = length
        self.keys = self.all_keys[: self.rows, :, :length]
        self.values = self.all_values[: self.rows, :, :length]


def roomy_cache(model: PreTrainedModel, room: int) -> DynamicCache:
    """An empty cache for `room` tokens, and for more at the price of a copy. All of them are kept: a sliding window is
    the mask's business."""
    cache = DynamicCache()
    cache.layers = [RoomyLayer(room) for _ in range(model.config.get_text_config().num_hidden_layers)]
    return cache


def place(cache: DynamicCache, read: DynamicCache, places: Tensor, rows: int, width: int) -> None:
    """Rows of a stock cache into a roomy one, as of `RoomyLayer.place`. A layer that shares another's keys has none."""
    for layer, own in zip(cache.layers, read.layers, strict=False):
        if own.is_initialized:
            layer.place(own.keys, own.values, places, rows, width)


def keep(cache: DynamicCache, going: Tensor) -> Tensor:
    """Leave out the rows of a roomy cache where `going` is False; returns which row each of those that are left was."""
    order = packed(going)
    moved = order != torch.arange(len(order), device=going.device)
    targets, sources = moved.nonzero()[:, 0], order[moved]
    for layer in cache.layers:
        if layer.is_initialized:
            layer.move(sources, targets, len(order))
    return order


def packed(going: Tensor) -> Tensor:
    """The rows where `going` is True: the last ones in the places of those that leave, the others where they are, so
    that only as many are copied as leave."""
    order, left = torch.arange(len(going), device=going.device), int(going.sum())
    order[:left][~going[:left]] = order[left:][going[left:]]
    return order[:left]
