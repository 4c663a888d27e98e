"""A small network as a planning model that costs microseconds a call: states in one array, few calls.

Letters: B roots, M evaluated nodes, A actions, D width of a state, I and O widths of a layer.

At one row a framework spends most of a call on itself: 43 us of eager PyTorch for two layers of 256,
of which the arithmetic is 7. Here a handful of rows is one compiled call, which also leaves out
inputs that are 0 (after a rectifier about half), and more rows are BLAS into arrays made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from planning.compiled import HAS_NUMBA, kernel, network_kernel, network_part
from planning.model import Evaluation, PlanningError

LARGEST_FUSED_BATCH = 2
"""Up to here rows go through the layers one by one; beyond, sharing the weights between rows pays more."""
SMALL_PRODUCT = 2**19
"""Multiplications of one call of BLAS for a few rows: libraries leave out the packing of the weights for
small products only, and packing costs as much as the product of a dozen rows."""
MOST_CALLS = 8
"""More calls than that are no cheaper than packing once."""


@dataclass(frozen=True)
class MLPWeights:
    """A network that takes a state s and an action a to the next state s' and says what it is worth.

    `h = relu(s layer_0 + bias_0 + action[a])`, `h = relu(h layer_i + bias_i)` for each further layer, of
    which the last gives s'; then `s' head + head_bias` holds A logits, the value of s' and the reward
    on the way.
    """

    action: Float32[np.ndarray, "A O"]
    """What each action adds before the first rectifier."""
    layers: tuple[Float32[np.ndarray, "I O"], ...]
    """At least one; the first takes D inputs, the last gives D outputs."""
    biases: tuple[Float32[np.ndarray, " O"], ...]
    """One for each layer."""
    head: Float32[np.ndarray, "D A+2"]
    """Weights of logits, value and reward."""
    head_bias: Float32[np.ndarray, " A+2"]
    """Their bias."""

    def __post_init__(self) -> None:
        """Refuse layers that do not fit together.

        Raises:
            PlanningError: naming the layer and both shapes.
        """
        if not self.layers or len(self.biases) != len(self.layers):
            raise PlanningError(
                f"there are {len(self.layers)} layers and {len(self.biases)} biases; every layer needs one"
            )
        width = self.layers[0].shape[0]
        expected: list[tuple[str, np.ndarray, tuple[int, ...]]]
        expected = [("action", self.action, (len(self.action), self.layers[0].shape[1]))]
        inputs = width
        for place, (layer, bias) in enumerate(zip(self.layers, self.biases, strict=True)):
            expected.append((f"layers[{place}]", layer, (inputs, layer.shape[1])))
            expected.append((f"biases[{place}]", bias, (layer.shape[1],)))
            inputs = layer.shape[1]
        expected.append(("layers[-1]", self.layers[-1], (self.layers[-1].shape[0], width)))
        expected.append(("head", self.head, (width, len(self.action) + 2)))
        expected.append(("head_bias", self.head_bias, (len(self.action) + 2,)))
        for name, array, shape in expected:
            if array.shape != shape:
                raise PlanningError(f"{name} has shape {array.shape}; it must have shape {shape}")

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return len(self.action)

    @property
    def width(self) -> int:
        """Size D of a state."""
        return self.layers[0].shape[0]


class MLPModel:
    """A `PlanningModel` of a small network whose actions are all legal and that knows no ends.

    An observation is an array of B states, [B, D]: what an encoder makes of what was seen.
    """

    def __init__(self, weights: MLPWeights, *, discount: float = 0.997) -> None:
        """Take up a network.

        Args:
            weights: its arrays; they are not copied.
            discount: factor on the future at each step.
        """
        self.weights, self.discount = weights, discount
        self._action_biases = weights.action + weights.biases[0]
        self._states = np.empty((0, weights.width), dtype=np.float32)
        self._used = 0
        self._make_arrays(0)

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.weights.num_actions

    def root(self, observation: Float32[np.ndarray, "B D"]) -> Evaluation:
        """Start from B states; earlier ones are forgotten.

        Raises:
            PlanningError: for states of another width than the network's.
        """
        if observation.ndim != 2 or observation.shape[1] != self.weights.width:
            raise PlanningError(
                f"the observation has shape {observation.shape}; it must have shape (B, {self.weights.width})"
            )
        self._used, rows = 0, len(observation)
        node = self._reserve(rows)
        self._states[:rows] = observation
        self._read_head(observation, np.empty((rows, self.num_actions + 2), dtype=np.float32))
        self._rows = -1  # steps get an answer of their own: this one says other discounts
        answer = self._answer
        answer.node[:], answer.reward[:], answer.discount[:] = node, 0, 1
        self._used = rows
        return answer

    def step(self, parent: Int[np.ndarray, "M"], action: Int[np.ndarray, "M"]) -> Evaluation:
        """Take M actions; the answer's arrays are used again by the next call."""
        rows, weights = len(parent), self.weights
        node = self._reserve(rows)
        answer = self._answer
        if HAS_NUMBA and rows <= LARGEST_FUSED_BATCH:
            step_rows(
                self._states, self._used, parent, action, self._action_biases, weights.layers, weights.biases,
                weights.head, weights.head_bias, self._places, self._wide,
                answer.reward, answer.value, answer.prior_logits,
            )  # fmt: skip
        else:
            following = self._states[self._used : self._used + rows]
            # With "raise" NumPy would write to a buffer first.
            np.take(self._states, parent, axis=0, out=self._inputs, mode="clip")
            self._layers(self._inputs, action, following)
            self._read_head(following, self._out)
        answer.node[:] = node
        self._used += rows
        return answer

    def _layers(self, inputs: np.ndarray, action: np.ndarray, following: np.ndarray) -> None:
        """All layers on M rows, into the rows of the next states."""
        weights, hidden = self.weights, inputs
        for place, layer in enumerate(weights.layers):
            last = place == len(weights.layers) - 1
            out = following if last else self._hidden[place]
            multiply(hidden, layer, out)
            if place == 0:
                rectify(out, self._action_biases, action)
            else:
                rectify(out, weights.biases[place][None], self._zeros)
            hidden = out

    def _read_head(self, states: np.ndarray, out: np.ndarray) -> None:
        """Logits, values and rewards of M states, into the answer."""
        multiply(states, self.weights.head, out)
        answer = self._answer
        split_head(out, self.weights.head_bias, answer.prior_logits, answer.value, answer.reward)

    def _reserve(self, rows: int) -> Int[np.ndarray, " M"]:
        """Make room for M more states and for an answer about them; returns their handles."""
        end = self._used + rows
        if end > len(self._states):
            grown = np.empty((2 * end, self.weights.width), dtype=np.float32)
            grown[: self._used] = self._states[: self._used]
            self._states, self._handles = grown, np.arange(2 * end)
        if self._rows != rows:
            self._make_arrays(rows)
        return self._handles[self._used : end]

    def _make_arrays(self, rows: int) -> None:
        """What a call for M rows writes into."""
        weights, edges = self.weights, (rows, self.num_actions)
        widest = max(layer.shape[1] for layer in (*weights.layers, weights.head))
        self._rows = rows
        self._inputs = np.empty((rows, weights.width), dtype=np.float32)
        self._hidden = [np.empty((rows, layer.shape[1]), dtype=np.float32) for layer in weights.layers[:-1]]
        self._out = np.empty((rows, self.num_actions + 2), dtype=np.float32)
        self._zeros = np.zeros(rows, dtype=np.int64)
        self._wide = np.empty((2, widest), dtype=np.float32)
        self._places = np.empty(max(widest, weights.width), dtype=np.int64)
        self._answer = Evaluation(
            node=np.empty(rows, dtype=np.int64),
            reward=np.empty(rows, dtype=np.float32),
            discount=np.full(rows, self.discount, dtype=np.float32),
            value=np.empty(rows, dtype=np.float32),
            q_value=np.zeros(edges, dtype=np.float32),
            prior_logits=np.empty(edges, dtype=np.float32),
            legal_mask=np.ones(edges, dtype=bool),
        )


def multiply(
    inputs: Float[np.ndarray, "M I"], weight: Float[np.ndarray, "I O"], out: Float[np.ndarray, "M O"]
) -> None:
    """`out = inputs weight`, a few rows at a time where there are few."""
    rows, at_once = len(inputs), max(1, SMALL_PRODUCT // weight.size)
    if rows <= at_once or rows > MOST_CALLS * at_once:
        np.dot(inputs, weight, out=out)
        return
    for first in range(0, rows, at_once):
        np.dot(inputs[first : first + at_once], weight, out=out[first : first + at_once])


def rectify_plainly(out, table, index):
    """Out = relu(out + table[index]), row by row."""
    out += table[index]
    np.maximum(out, 0, out=out)


@kernel
def _rectify(out, table, index):
    zero = out.dtype.type(0)
    for row in range(len(out)):
        values, added = out[row], table[index[row]]
        for column in range(len(values)):
            total = values[column] + added[column]
            values[column] = zero if total < zero else total  # a NaN stays one


def split_head_plainly(out, bias, prior_logits, value, reward):
    """Share out the columns of a head's outputs."""
    out += bias
    prior_logits[:], value[:], reward[:] = out[:, :-2], out[:, -2], out[:, -1]


@kernel
def _split_head(out, bias, prior_logits, value, reward):
    num_actions = prior_logits.shape[1]
    for row in range(len(out)):
        for edge in range(num_actions):
            prior_logits[row, edge] = out[row, edge] + bias[edge]
        value[row] = out[row, num_actions] + bias[num_actions]
        reward[row] = out[row, num_actions + 1] + bias[num_actions + 1]


rectify = _rectify if HAS_NUMBA else rectify_plainly
split_head = _split_head if HAS_NUMBA else split_head_plainly


@network_part
def add_product(vector, matrix, bias, places, out):
    """Out = vector @ matrix + bias, four inputs at a time and without those that are 0."""
    for column in range(matrix.shape[1]):
        out[column] = bias[column]
    found = 0
    for place in range(len(vector)):
        places[found] = place
        found += vector[place] != 0
    whole = found - found % 4
    for first in range(0, whole, 4):
        a, b, c, d = places[first], places[first + 1], places[first + 2], places[first + 3]
        of_a, of_b, of_c, of_d = vector[a], vector[b], vector[c], vector[d]
        for column in range(matrix.shape[1]):
            out[column] += (
                of_a * matrix[a, column] + of_b * matrix[b, column]
                + of_c * matrix[c, column] + of_d * matrix[d, column]
            )  # fmt: skip
    for first in range(whole, found):
        place = places[first]
        for column in range(matrix.shape[1]):
            out[column] += vector[place] * matrix[place, column]


@network_kernel
def step_rows(
    states, used, parent, action, action_biases, layers, biases, head, head_bias, places, wide,
    reward, value, prior_logits,
):  # fmt: skip
    """The whole step for a few rows; their next states go to `states` from row `used` on."""
    num_actions, zero = prior_logits.shape[1], states.dtype.type(0)
    for row in range(len(parent)):
        inputs = states[parent[row]]
        for place in range(len(layers)):
            bias = action_biases[action[row]] if place == 0 else biases[place]
            outputs = wide[place % 2, : layers[place].shape[1]]
            add_product(inputs, layers[place], bias, places, outputs)
            for column in range(len(outputs)):
                outputs[column] = zero if outputs[column] < zero else outputs[column]
            inputs = outputs
        for column in range(len(inputs)):
            states[used + row, column] = inputs[column]
        out = wide[len(layers) % 2, : num_actions + 2]
        add_product(inputs, head, head_bias, places, out)
        for edge in range(num_actions):
            prior_logits[row, edge] = out[edge]
        value[row], reward[row] = out[num_actions], out[num_actions + 1]
