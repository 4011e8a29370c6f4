"""Decoders and the masked mean in numpy float64, one sequence at a time, from weights as arrays.

Nothing here comes from torch or transformers. What a family does is read off its weights (biases, norms of queries and
keys, fused projections, experts) and its configuration's numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def hidden_states(config: dict[str, Any], weights: dict[str, Array], ids: list[int], *, causal: bool = False) -> Array:
    """Last hidden states ``[T, d]`` of one sequence without padding."""
    x = weights["embed_tokens.weight"][ids]
    if is_gemma(config):
        x = x * np.float64(np.float32(config["hidden_size"] ** 0.5))
    for number in range(config["num_hidden_layers"]):
        prefix = f"layers.{number}."
        layer = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
        attended = attention(config, layer, rms_norm(config, x, layer["input_layernorm.weight"]), number, causal)
        if "pre_feedforward_layernorm.weight" in layer:
            x = x + rms_norm(config, attended, layer["post_attention_layernorm.weight"])
            fed = feed_forward(config, layer, rms_norm(config, x, layer["pre_feedforward_layernorm.weight"]))
            x = x + rms_norm(config, fed, layer["post_feedforward_layernorm.weight"])
        else:
            x = x + attended
            x = x + feed_forward(config, layer, rms_norm(config, x, layer["post_attention_layernorm.weight"]))
    return rms_norm(config, x, weights["norm.weight"])


def is_gemma(config: dict[str, Any]) -> bool:
    return config["model_type"].startswith("gemma")


def rms_norm(config: dict[str, Any], x: Array, weight: Array) -> Array:
    scale = weight + 1 if is_gemma(config) else weight
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config["rms_norm_eps"]) * scale


def linear(layer: dict[str, Array], name: str, x: Array) -> Array:
    return x @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0.0)


def attention(config: dict[str, Any], layer: dict[str, Array], x: Array, number: int, causal: bool) -> Array:
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    if "self_attn.qkv_proj.weight" in layer:
        queries, keys, values = np.split(
            linear(layer, "self_attn.qkv_proj", x), [heads * size, (heads + groups) * size], axis=1
        )
    else:
        queries, keys, values = (linear(layer, f"self_attn.{name}_proj", x) for name in "qkv")
    theta = rope_theta(config, number)
    scale = (config.get("query_pre_attn_scalar") or size) ** -0.5
    seen = visible(config, len(x), number, causal)
    out = np.empty((len(x), heads * size))
    for head in range(heads):
        group = head * groups // heads
        q, k, v = queries[:, cut(head, size)], keys[:, cut(group, size)], values[:, cut(group, size)]
        if "self_attn.q_norm.weight" in layer:
            q = rms_norm(config, q, layer["self_attn.q_norm.weight"])
            k = rms_norm(config, k, layer["self_attn.k_norm.weight"])
        out[:, cut(head, size)] = (
            softmax(np.where(seen, scores(config, rotate(q, theta), rotate(k, theta), scale), -np.inf)) @ v
        )
    return linear(layer, "self_attn.o_proj", out)


def cut(head: int, size: int) -> slice:
    return slice(head * size, (head + 1) * size)


def rope_theta(config: dict[str, Any], number: int) -> float:
    rope = config["rope_parameters"]
    return rope["rope_theta"] if "rope_theta" in rope else rope[config["layer_types"][number]]["rope_theta"]


def rotate(x: Array, theta: float) -> Array:
    """Rotary positions: the two halves of a vector are one complex vector, turned by the position."""
    half = x.shape[1] // 2
    turns = np.outer(np.arange(len(x)), theta ** (-np.arange(half) / half))
    turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * turns)
    return np.concatenate([turned.real, turned.imag], axis=1)


def visible(config: dict[str, Any], length: int, number: int, causal: bool) -> Array:
    """Which tokens see which, bool ``[T, T]``: a local layer has a window, to both sides where it is not causal."""
    back = np.arange(length)[:, None] - np.arange(length)
    local = (config.get("layer_types") or {number: ""})[number] == "sliding_attention"
    if causal:
        return (back >= 0) & (back < config["sliding_window"] if local else True)
    return np.abs(back) <= (config["sliding_window"] if local else length)


def scores(config: dict[str, Any], q: Array, k: Array, scale: float) -> Array:
    raw = q @ k.T * scale
    cap = config.get("attn_logit_softcapping")
    if cap:
        raw = cap * np.tanh(raw / cap)
    return raw


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def feed_forward(config: dict[str, Any], layer: dict[str, Array], x: Array) -> Array:
    if "mlp.experts.gate_up_proj" in layer:
        return experts(config, layer, x)
    if "mlp.gate_up_proj.weight" in layer:
        gate, up = np.split(linear(layer, "mlp.gate_up_proj", x), 2, axis=1)
    else:
        gate, up = linear(layer, "mlp.gate_proj", x), linear(layer, "mlp.up_proj", x)
    return linear(layer, "mlp.down_proj", activation(config, gate) * up)


def experts(config: dict[str, Any], layer: dict[str, Array], x: Array) -> Array:
    """Each token's best experts, weighted by their share of the probability of the chosen ones."""
    chances = softmax(x @ layer["mlp.gate.weight"].T)
    out = np.zeros_like(x)
    for token in range(len(x)):
        chosen = np.argsort(-chances[token])[: config["num_experts_per_tok"]]
        for expert in chosen:
            gate, up = np.split(layer["mlp.experts.gate_up_proj"][expert] @ x[token], 2)
            fed = layer["mlp.experts.down_proj"][expert] @ (activation(config, gate) * up)
            out[token] += chances[token, expert] / chances[token, chosen].sum() * fed
    return out


def activation(config: dict[str, Any], x: Array) -> Array:
    if is_gemma(config):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x / (1 + np.exp(-x))


def masked_mean(states: Array, keep: list[bool], *, unit: bool = True) -> Array:
    """The mean of the kept rows, scaled to length 1."""
    mean = np.stack([state for state, kept in zip(states, keep, strict=True) if kept]).sum(axis=0) / sum(keep)
    return mean / np.sqrt((mean * mean).sum()) if unit else mean


GPT2_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
GPT2_CHARACTERS = {chr(b): b for b in GPT2_BYTES} | {
    chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in GPT2_BYTES)
}


def token_bytes(token: str, style: str) -> bytes:
    """The bytes a token stands for, in the two alphabets that decoders use."""
    if style == "byte-level":
        return bytes(GPT2_CHARACTERS[character] for character in token)
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def text_tokens(tokens: list[str | None], style: str, prefix: str, *, space_in_front: bool) -> list[bool]:
    """Which tokens are pooled, by spelling the tokens out: no offsets of any library.

    A token is pooled from the first one on that spells a byte beyond the instruction without its trailing spaces.
    Without an instruction all are. A token that the tokenizer put around the text is None.
    """
    if not prefix.strip():
        return [True] * len(tokens)
    border, keep = len(prefix.rstrip().encode()), []
    end = -1 if space_in_front else 0  # a space that the tokenizer adds
    for token in tokens:
        end += 0 if token is None else len(token_bytes(token, style))
        keep.append(end > border or any(keep))
    return keep
