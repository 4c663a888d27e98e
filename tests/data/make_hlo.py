"""Make the HLO texts beside this file: `python tests/data/make_hlo.py`, with jax installed.

They depend on the version of jaxlib (these are of 0.10.2, CPU), so the texts are kept, not made by the tests.
"""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp

HERE = Path(__file__).parent


def mlp_step(params, inputs, targets):
    """One step of gradient descent of three layers; the old weights are donated."""

    def loss(params):
        hidden = inputs
        for layer, (weights, bias) in enumerate(params):
            hidden = hidden @ weights + bias
            hidden = jnp.tanh(hidden) if layer < 2 else hidden
        return jnp.mean((hidden - targets) ** 2)

    value, gradients = jax.value_and_grad(loss)(params)
    return value, jax.tree.map(lambda old, gradient: old - 0.01 * gradient, params, gradients)


def recurrent_scan(recurrent, weights, inputs, hidden):
    """A recurrent layer over twelve steps."""

    def step(hidden, now):
        hidden = jnp.tanh(hidden @ recurrent + now @ weights)
        return hidden, hidden

    return jax.lax.scan(step, hidden, inputs)


def attention(inputs, query, key, value, out):
    """Causal attention with four heads."""
    queries, keys, values = ((inputs @ weights).reshape(4, 64, 4, 32) for weights in (query, key, value))
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / 32**0.5
    scores = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((64, 64), bool)), scores, -1e9))
    return inputs + jnp.einsum("bhqk,bkhd->bqhd", scores, values).reshape(4, 64, 128) @ out


def layered_step(layers, inputs):
    """One step of gradient descent of a transformer that is a scan over its layers."""

    def layer(hidden, weights):
        project, out, expand, contract = weights
        heads = (hidden @ project).reshape(2, 64, 3, 4, 32)
        scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", heads[:, :, 0], heads[:, :, 1]))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", scores, heads[:, :, 2]).reshape(2, 64, 128)
        hidden = hidden + mixed @ out
        return hidden + jax.nn.gelu(hidden @ expand) @ contract, None

    def loss(layers):
        return jnp.mean(jax.lax.scan(layer, inputs, layers)[0] ** 2)

    return jax.tree.map(lambda old, gradient: old - 0.1 * gradient, layers, jax.grad(loss)(layers))


def write(name: str, function, *inputs, donate: tuple[int, ...] = (), with_metadata: bool = False) -> None:
    """Compile a function and write its text, without the places in the source unless asked for."""
    text = jax.jit(function, donate_argnums=donate).lower(*inputs).compile().as_text()
    text = re.sub(r'"[^"\n]*/[^"/\n]*\.py"', '"model.py"', text)
    if not with_metadata:
        text = re.sub(r"FileNames\n.*?\n\n\n", "", re.sub(r", metadata=\{[^}]*\}", "", text), flags=re.DOTALL)
    (HERE / f"{name}.hlo").write_text(text)


def array(*dims: int) -> jax.ShapeDtypeStruct:
    """Shape of an input."""
    return jax.ShapeDtypeStruct(dims, jnp.float32)


if __name__ == "__main__":
    layers = [(array(256, 512), array(512)), (array(512, 512), array(512)), (array(512, 64), array(64))]
    write("mlp_step", mlp_step, layers, array(128, 256), array(128, 64), donate=(0,))
    write(
        "recurrent_scan", recurrent_scan, array(256, 256), array(128, 256), array(12, 32, 128), array(32, 256)
    )
    write("attention", attention, array(4, 64, 128), *[array(128, 128)] * 4, with_metadata=True)
    layers = (array(4, 128, 384), array(4, 128, 128), array(4, 128, 512), array(4, 512, 128))
    write("layered_step", layered_step, layers, array(2, 64, 128), donate=(0,))
