"""Small models of many families with random weights, and a tokenizer trained on the spot, saved as folders."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 300
TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on through 12 rainy days.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "In the beginning God created the heaven and the earth. And the earth was without form, and void.",
    "Überraschung: naïve café visitors paid 3.50 € 😀 and left.",
]

_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_GEMMA = _LLAMA | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
_BERT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
}
_GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 160}
_T5 = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 3, "num_heads": 4}
_BART = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 160,
}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

# Family: the configuration class of transformers, and what makes it small.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT),
    "gpt_neox": ("GPTNeoXConfig", _BERT),
    "llama": ("LlamaConfig", _LLAMA),
    "gemma3": ("Gemma3TextConfig", _GEMMA),
    "qwen2": ("Qwen2Config", _LLAMA),
    "mistral": ("MistralConfig", _LLAMA | {"sliding_window": 16}),
    "bert": ("BertConfig", _BERT),
    "gpt_neox_sequential": ("GPTNeoXConfig", _BERT | {"use_parallel_residual": False}),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 160,
        },
    ),
    "gptj": ("GPTJConfig", _GPT | {"rotary_dim": 4}),
    "codegen": ("CodeGenConfig", _GPT | {"rotary_dim": 4}),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT),
    "openai_gpt": ("OpenAIGPTConfig", _GPT),
    "ctrl": ("CTRLConfig", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 160, "dff": 48}),
    "opt": ("OPTConfig", _BERT | {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "opt_post_norm": (
        "OPTConfig",
        _BERT | {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "bloom_post": (
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 3, "n_head": 4, "apply_residual_connection_post_layernorm": True},
    ),
    "mpt": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 160}),
    "falcon": ("FalconConfig", _BERT | {"alibi": False}),
    "falcon_new": ("FalconConfig", _BERT | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_sequential": ("FalconConfig", _BERT | {"parallel_attn": False, "alibi": True}),
    "phi": ("PhiConfig", _BERT),
    "phi3": ("Phi3Config", _LLAMA | {"pad_token_id": 0}),
    "stablelm": ("StableLmConfig", _LLAMA),
    "stablelm_parallel": ("StableLmConfig", _LLAMA | {"use_parallel_residual": True}),
    "qwen3": ("Qwen3Config", _LLAMA | {"head_dim": 8}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        _LLAMA | _MOE | {"shared_expert_intermediate_size": 24},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", _LLAMA | _MOE | {"head_dim": 8}),
    "mixtral": ("MixtralConfig", _LLAMA | {"num_local_experts": 4}),
    "olmo": ("OlmoConfig", _LLAMA),
    "olmo2": ("Olmo2Config", _LLAMA),
    "olmoe": ("OlmoeConfig", _LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}),
    "gemma": ("GemmaConfig", _LLAMA | {"head_dim": 8}),
    "gemma2": ("Gemma2Config", _GEMMA),
    "granite": (
        "GraniteConfig",
        _LLAMA | {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "attention_multiplier": 0.1},
    ),
    "granite_moe": (
        "GraniteMoeConfig",
        _LLAMA | {"residual_multiplier": 0.22, "num_local_experts": 4},
    ),
    "cohere": ("CohereConfig", _LLAMA),
    "cohere2": ("Cohere2Config", _LLAMA | {"head_dim": 8}),
    "starcoder2": ("Starcoder2Config", _LLAMA),
    "smollm3": ("SmolLM3Config", _LLAMA),
    "gpt_oss": ("GptOssConfig", _LLAMA | {"num_local_experts": 4, "head_dim": 8}),
    "deepseek_v3": (
        "DeepseekV3Config",
        _LLAMA
        | {
            "num_key_value_heads": 4,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "glm4": ("Glm4Config", _LLAMA | {"head_dim": 8}),
    "xglm": (
        "XGLMConfig",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4, "max_position_embeddings": 160},
    ),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}),
    "jamba": (
        "JambaConfig",
        _LLAMA
        | {
            "num_experts": 2,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 4,
        },
    ),
    "roberta": ("RobertaConfig", _BERT),
    "electra": ("ElectraConfig", _BERT | {"embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 160},
    ),
    "modernbert": ("ModernBertConfig", _BERT | {"local_attention": 16}),
    "albert": ("AlbertConfig", _BERT | {"embedding_size": 16}),
    "mpnet": ("MPNetConfig", _BERT),
    "deberta_v2": (
        "DebertaV2Config",
        _BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    ),
    "longformer": ("LongformerConfig", _BERT | {"attention_window": 16}),
    "roformer": ("RoFormerConfig", _BERT),
    "t5": ("T5Config", _T5),
    "t5_shallow": ("T5Config", _T5 | {"num_layers": 1}),
    "bart": ("BartConfig", _BART),
    "pegasus": ("PegasusConfig", _BART),
}
_ENCLOSING = {"bert", "roberta", "electra", "distilbert", "modernbert", "albert", "mpnet", "deberta_v2"}
_STARTING = {"llama", "mistral", "gemma", "gemma2", "gemma3", "opt"}
_ENDING = {"t5", "t5_shallow"}


def save_tiny_model(family: str, folder: Path, **changes: Any) -> Path:
    """A model and its tokenizer in `folder`; equal for equal arguments."""
    _save_tokenizer(family, folder)
    tiny_model(family, **changes).save_pretrained(folder)
    return folder


def _save_tokenizer(family: str, folder: Path) -> None:
    tokenizer = tiny_tokenizer(
        "<s> $A </s>"
        if family in _ENCLOSING
        else "<s> $A"
        if family in _STARTING
        else "$A </s>"
        if family in _ENDING
        else "$A"
    )
    tokenizer.save_pretrained(folder)


def tiny_model(family: str, **changes: Any) -> Any:
    """The body of a small model; norms and biases are random too, for ones and zeros would hide mistakes."""
    return _randomised(transformers.AutoModel, family, changes)


def save_tiny_language_model(family: str, folder: Path, **changes: Any) -> Path:
    """Like `save_tiny_model`, with the head."""
    _save_tokenizer(family, folder)
    _randomised(transformers.AutoModelForCausalLM, family, changes).save_pretrained(folder)
    return folder


def _randomised(auto_class: Any, family: str, changes: dict[str, Any]) -> Any:
    class_name, small = FAMILIES[family]
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = getattr(transformers, class_name)(**(special | {"vocab_size": VOCABULARY} | small | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _shaken(auto_class.from_config(config))


def randomised(model: Any) -> Any:
    """The model, its norms and biases random too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _shaken(model)


def _shaken(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def save_model(model: Any, folder: Path) -> Any:
    """Save any model of 300 tokens with the tokenizer; returns the model."""
    tiny_tokenizer().save_pretrained(folder)
    model.save_pretrained(folder)
    return model


@functools.cache
def tiny_tokenizer(template: str = "$A") -> Any:
    """A byte-level BPE tokenizer; `template` says which special tokens it puts around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


class OnlyRuns:
    """A text model that gives activations and goes on from none."""

    def __init__(self, model: Any) -> None:
        self.windows, self.activations = model.windows, model.activations
        self.n_layers, self.width, self.tokenizer_hash = model.n_layers, model.width, model.tokenizer_hash
