"""Small random models of the families that transformers calls causal language models, each with a tokenizer.

Their output layer is large, so that logits are far from uniform, and they have a few entries more than the tokenizer
knows. Sliding windows are shorter than the texts that the tests read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

CONTEXT = 192
END, PAD, BEGIN = "<|endoftext|>", "<|pad|>", "<|begin|>"
SPARE = 6  # entries that the tokenizer does not know

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
USUAL = {**SHAPE, "max_position_embeddings": CONTEXT, "num_key_value_heads": 2}
OPENAI = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts_per_tok": 2, "num_experts": 4}
OPT = {
    "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}

FAMILIES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "GPT-2": (hf.GPT2Config, OPENAI),
    "GPT-Neo": (hf.GPTNeoConfig, {
        "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
        "window_size": 16, "max_position_embeddings": CONTEXT,
    }),
    "GPT-J": (hf.GPTJConfig, {**OPENAI, "rotary_dim": 4}),
    "GPT-NeoX, Pythia": (hf.GPTNeoXConfig, {**SHAPE, "max_position_embeddings": CONTEXT}),
    "GPT BigCode": (hf.GPTBigCodeConfig, OPENAI),
    "CodeGen": (hf.CodeGenConfig, {**OPENAI, "rotary_dim": 4}),
    "OPT": (hf.OPTConfig, {**OPT, "word_embed_proj_dim": 32}),
    "OPT 350M": (hf.OPTConfig, {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "BLOOM": (hf.BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "MPT": (hf.MptConfig, {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT}),
    "Falcon": (hf.FalconConfig, FALCON),
    "Falcon (ALiBi)": (hf.FalconConfig, {**FALCON, "alibi": True}),
    "XGLM": (hf.XGLMConfig, {
        "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": CONTEXT,
    }),
    "BioGPT": (hf.BioGptConfig, {**SHAPE, "max_position_embeddings": CONTEXT}),
    "Llama": (hf.LlamaConfig, USUAL),
    "Llama (tied)": (hf.LlamaConfig, {**USUAL, "tie_word_embeddings": True}),
    "Mistral": (hf.MistralConfig, {**USUAL, "sliding_window": 16}),
    "Mixtral": (hf.MixtralConfig, {**USUAL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen2": (hf.Qwen2Config, {**USUAL, "tie_word_embeddings": True}),
    "Qwen2-MoE": (hf.Qwen2MoeConfig, {
        **USUAL, **EXPERTS, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    }),
    "Qwen3": (hf.Qwen3Config, {**USUAL, "head_dim": 16}),
    "Qwen3-MoE": (hf.Qwen3MoeConfig, {**USUAL, **EXPERTS, "moe_intermediate_size": 16, "head_dim": 8}),
    "Gemma": (hf.GemmaConfig, {**USUAL, "num_key_value_heads": 1, "head_dim": 8}),
    "Gemma 2": (hf.Gemma2Config, {
        **USUAL, "head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8,
    }),
    "Gemma 3 (text)": (hf.Gemma3TextConfig, {**USUAL, **WINDOWS, "head_dim": 8}),
    "Gemma 3": (hf.Gemma3Config, {
        "text_config": {**USUAL, **WINDOWS, "head_dim": 8}, "mm_tokens_per_image": 4,
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
    }),
    "Phi-1, Phi-2": (hf.PhiConfig, {**SHAPE, "max_position_embeddings": CONTEXT}),
    "Phi-3, Phi-4": (hf.Phi3Config, {**USUAL, "pad_token_id": 1}),
    "Cohere": (hf.CohereConfig, {**USUAL, "logit_scale": 0.25}),
    "Cohere 2": (hf.Cohere2Config, {**USUAL, **WINDOWS, "logit_scale": 0.25}),
    "Granite": (hf.GraniteConfig, {**USUAL, "logits_scaling": 4.0, "embedding_multiplier": 6.0}),
    "Granite-MoE": (hf.GraniteMoeConfig, {
        **USUAL, "num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 4.0,
    }),
    "OLMo": (hf.OlmoConfig, USUAL),
    "OLMo 2": (hf.Olmo2Config, USUAL),
    "OLMo 3": (hf.Olmo3Config, {**USUAL, **WINDOWS}),
    "OLMoE": (hf.OlmoeConfig, {**USUAL, **EXPERTS}),
    "StableLM": (hf.StableLmConfig, USUAL),
    "StarCoder 2": (hf.Starcoder2Config, {**USUAL, "sliding_window": 16}),
    "SmolLM 3": (hf.SmolLM3Config, {**USUAL, "pad_token_id": 1}),
    "Nemotron": (hf.NemotronConfig, USUAL),
    "Persimmon": (hf.PersimmonConfig, {**SHAPE, "max_position_embeddings": CONTEXT}),
    "GLM-4": (hf.Glm4Config, {**USUAL, "head_dim": 8, "pad_token_id": 1}),
    "EXAONE 4": (hf.Exaone4Config, USUAL),
    "ERNIE 4.5": (hf.Ernie4_5Config, USUAL),
    "Seed-OSS": (hf.SeedOssConfig, {**USUAL, "head_dim": 8}),
    "Apertus": (hf.ApertusConfig, USUAL),
    "gpt-oss": (hf.GptOssConfig, {
        **USUAL, **WINDOWS, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
    }),
    "DeepSeek-V3": (hf.DeepseekV3Config, {
        **USUAL, "num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
    }),
    "CTRL": (hf.CTRLConfig, {**OPENAI, "dff": 48}),
    "Mamba": (hf.MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
    "RecurrentGemma": (hf.RecurrentGemmaConfig, {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "lru_width": 32,
    }),
    "Jamba": (hf.JambaConfig, {**USUAL, "num_experts": 2, "use_mamba_kernels": False}),
    "LFM2": (hf.Lfm2Config, {**USUAL, "layer_types": ["conv", "full_attention"]}),
    "Qwen3-Next": (hf.Qwen3NextConfig, {
        **USUAL, **EXPERTS, "head_dim": 8, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
        "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    }),
    "OpenAI GPT": (hf.OpenAIGPTConfig, OPENAI),
    "BERT as decoder": (hf.BertConfig, {**SHAPE, "max_position_embeddings": CONTEXT, "is_decoder": True}),
    "BERT": (hf.BertConfig, {**SHAPE, "max_position_embeddings": CONTEXT}),
    "RoBERTa as decoder": (hf.RobertaConfig, {**SHAPE, "max_position_embeddings": CONTEXT, "is_decoder": True}),
}  # fmt: skip
"""By the name that people know: the config and its arguments."""


def tokenizer(begins: bool) -> hf.PreTrainedTokenizerFast:
    """End-of-text 0, pad 1, beginning 2, then the 256 bytes; `begins`: it puts its beginning before every text."""
    entries = [END, PAD, BEGIN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if begins:
        core.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, 2)]
        )
    return hf.PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=PAD)


def build(family: str, path: Path, begins: bool = False) -> Path:
    """Write a small random model of a family, and its tokenizer, into a directory."""
    make, arguments = FAMILIES[family]
    words = tokenizer(begins)
    ids = {"bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 1}
    size = {"vocab_size": len(words) + SPARE}
    if "text_config" in arguments:
        arguments = {**arguments, "text_config": {**arguments["text_config"], **size, **ids}}
        config = make(**arguments)
    else:
        config = make(**{**arguments, **size, **ids})
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # norms and biases are not all 1 and 0, as in a model that was trained
            parameter.data += 0.1 * torch.randn_like(parameter)
        elif "embed" not in name and "wte" not in name:
            parameter.data *= 4
    model.get_output_embeddings().weight.data *= 8
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path
