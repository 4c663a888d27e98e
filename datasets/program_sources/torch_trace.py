"""A PyTorch function as a program of the memory-mapping game: traced, unfused, in the order of the trace."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from agents.games.memory.hardware import Hardware
from agents.games.memory.program import Access, Buffer, Instruction, Program
from agents.games.memory.program_checks import check_program
from datasets.errors import UserError

SMALLEST = 256
"""Tensors of fewer bytes are left out, as in SPEC section 1."""


def trace_program(target: str, hardware: Hardware) -> Program:
    """Trace `module:function` and lay its operations out as a program.

    The function takes no arguments and returns what is to be mapped and its inputs: a callable and a list of
    tensors. The callable is traced on fake tensors, so nothing is computed and no size is too large.

    Args:
        target: `module:function`; the module is looked for in the working directory too.
        hardware: the machine.

    Raises:
        UserError: there is no such function, or it does not return a callable and tensors.
    """
    function, inputs = _load(target)
    return trace_function(function, inputs, target, hardware)


def trace_function(
    function: Callable, inputs: Sequence[torch.Tensor], name: str, hardware: Hardware
) -> Program:
    """Trace a callable on its inputs and lay its operations out as a program.

    Raises:
        UserError: it cannot be traced.
    """
    try:
        traced = make_fx(function, tracing_mode="fake")(*inputs)
    except Exception as error:
        raise UserError(f"{name}: cannot be traced ({type(error).__name__}: {error})") from error
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    for node, input_name in zip(placeholders, _input_names(function), strict=False):
        node._rename(input_name)
    return program_of_graph(traced, name.replace(":", "."), hardware)


def program_of_graph(traced: GraphModule, name: str, hardware: Hardware) -> Program:
    """Lay a traced graph out: a buffer per storage, an instruction per operation that moves or computes.

    Views share the buffer of what they look at. Inputs are parameters, results of the graph outputs. An
    operation that writes into its argument reads and writes that buffer.
    """
    builder = _Builder()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            builder.add_tensors(node, "param")
        elif node.op == "get_attr":
            builder.add_constant(node, getattr(traced, node.target))
        elif node.op == "call_function":
            builder.add_operation(node)
        elif node.op == "output":
            builder.mark_outputs(node)
    program = Program(name, hardware, tuple(builder.buffers), tuple(builder.instructions))
    check_program(program, name)
    return program


class _Builder:
    """Buffers and instructions of the operations so far."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.instructions: list[Instruction] = []
        self._buffer_of: dict[int, int] = {}
        self._storages: list[Any] = []  # kept alive: a storage is known by its address

    def add_tensors(self, node: Node, kind: str) -> list[int]:
        """A buffer for each new storage among a node's results."""
        added = []
        for tensor in _tensors(node.meta.get("val")):
            added += self._add(tensor, node.name, kind)
        return added

    def add_constant(self, node: Node, tensor: Any) -> None:
        """A buffer for a tensor that the trace holds."""
        node.meta.setdefault("val", tensor)
        for value in _tensors(node.meta["val"]):
            self._add(value, node.name, "const")

    def add_operation(self, node: Node) -> None:
        """An instruction, unless the operation only makes views."""
        written = [
            (self._find(tensor), _num_bytes(tensor))
            for argument in _mutated(node)
            for tensor in _tensors(argument.meta.get("val"))
        ]
        made = self.add_tensors(node, "temp")
        writes = {buffer: num_bytes for buffer, num_bytes in written if buffer is not None}
        writes |= {buffer: self.buffers[buffer].size for buffer in made}
        reads: dict[int, int] = {}
        for argument in node.all_input_nodes:
            for tensor in _tensors(argument.meta.get("val")):
                buffer = self._find(tensor)
                if buffer is not None:
                    reads[buffer] = min(reads.get(buffer, 0) + _num_bytes(tensor), self.buffers[buffer].size)
        if not writes:
            return
        self.instructions.append(
            Instruction(
                name=node.name, op=str(node.target), flops=float(_flops(node)), mult=1, region=0,
                reads=tuple(Access(buffer, num_bytes) for buffer, num_bytes in reads.items()),
                writes=tuple(Access(buffer, num_bytes) for buffer, num_bytes in writes.items()),
            )
        )  # fmt: skip

    def mark_outputs(self, node: Node) -> None:
        """Note what slow memory must hold at the end."""
        for result in node.all_input_nodes:
            for tensor in _tensors(result.meta.get("val")):
                buffer = self._find(tensor)
                if buffer is not None and self.buffers[buffer].kind == "temp":
                    self.buffers[buffer] = replace(self.buffers[buffer], live_out=True)

    def _add(self, tensor: torch.Tensor, name: str, kind: str) -> list[int]:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if size < SMALLEST or storage._cdata in self._buffer_of:
            return []
        self._buffer_of[storage._cdata] = len(self.buffers)
        self._storages.append(storage)
        self.buffers.append(Buffer(name, size, kind))
        return [len(self.buffers) - 1]

    def _find(self, tensor: torch.Tensor) -> int | None:
        return self._buffer_of.get(tensor.untyped_storage()._cdata)


def _input_names(function: Callable) -> Iterator[str]:
    """What a function calls its inputs, without end if it takes any number; none if it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            yield from (f"{parameter.name}_{place}" for place in count())
        yield parameter.name


def _load(target: str) -> tuple[Callable, Sequence[torch.Tensor]]:
    module_name, _, function_name = target.partition(":")
    if not function_name:
        raise UserError(f"{target}: expected module:function, for example my_model:training_step")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        make = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{target}: {error}; run from the folder that holds the module") from error
    made = make()
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise UserError(f"{target}: must return (callable, inputs), returns {type(made).__name__}")
    inputs = list(made[1])
    if not inputs or not all(isinstance(tensor, torch.Tensor) for tensor in inputs):
        raise UserError(f"{target}: the inputs must be a list of tensors, at least one")
    return made[0], inputs


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    for leaf in tree_flatten(value)[0]:
        if isinstance(leaf, torch.Tensor):
            yield leaf


def _num_bytes(tensor: torch.Tensor) -> int:
    """Bytes that reading a tensor moves: an expanded one holds fewer elements than it shows."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _mutated(node: Node) -> list[Node]:
    """Arguments that an operation writes into, by its schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    found = []
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            found += [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Node)]
    return found


def _flops(node: Node) -> int:
    """Arithmetic of an operation: PyTorch's own count where it has one, else one a result's element."""
    packet = getattr(node.target, "_overloadpacket", None)
    result = node.meta.get("val")
    if packet in flop_registry:
        arguments, keywords = _values(node.args), _values(node.kwargs)
        return int(flop_registry[packet](*arguments, **keywords, out_val=result))
    return sum(tensor.numel() for tensor in _tensors(result))


def _values(arguments: Any) -> Any:
    return map_arg(arguments, lambda node: node.meta.get("val"))
