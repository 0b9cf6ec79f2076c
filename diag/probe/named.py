"""What the statements around a call name, read without running anything of the user's: variables, their attributes,
parts of tensors, and numbers added to them."""

from __future__ import annotations

import ast
import functools
import linecache
import math
import operator
from collections import UserDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diag.probe.tensors import is_measurable
from diag.probe.variables import variables

_FOLLOWING = 4
"""Statements after the call that are looked at."""
_LARGE = 2**22
"""Elements of a part of a tensor that is taken at most."""
_ARRANGED = frozenset(
    "float double long int bool half bfloat16 cpu cuda numpy detach to type squeeze unsqueeze view reshape flatten "
    "ravel contiguous clone eq ne sub".split()
)
"""Methods whose owner holds the same numbers, or is compared."""
_ADDING = frozenset("append extend add update insert appendleft".split())
"""Methods that add to what owns them."""
_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """An expression that can be read. called: what it is given to, if that can be read. inverted: by `~`, as a mask."""

    node: ast.expr
    called: ast.expr | None
    inverted: bool

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The variables that it takes."""
        return _names(self.node)

    @functools.cached_property
    def parts(self) -> tuple[Named, Named] | None:
        """Of a part of something: what it is a part of, and which."""
        if not isinstance(self.node, ast.Subscript):
            return None
        place = self.node.slice
        inverts = isinstance(place, ast.UnaryOp) and isinstance(place.op, ast.Invert)
        which = place.operand if isinstance(place, ast.UnaryOp) else place
        return Named(self.node.value, self.called, self.inverted), Named(which, self.called, inverts)


def named(path: str, line: int) -> tuple[tuple[Named, ...], ...]:
    """What the statement that holds a line of a file names, then what those do that follow it; but for what these
    statements assign, which still holds what it did before."""
    return _read(path, line, linecache.getline(path, line))


def value_of(named: Named, frame: FrameType) -> Any:
    """What it is just now; None where that is not to be told."""
    return _evaluated(named.node, dict(zip(named.names, variables(frame, named.names), strict=True)))


def callee_of(named: Named, frame: FrameType) -> Any:
    """What it is given to."""
    if named.called is None:
        return None
    names = _names(named.called)
    return _evaluated(named.called, dict(zip(names, variables(frame, names), strict=True)))


@functools.cache
def _read(path: str, line: int, text: str) -> tuple[tuple[Named, ...], ...]:
    """text: the line itself, since a cell of a notebook may be another one by now."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ()
    block: list[ast.stmt] = tree.body
    following: list[ast.stmt] = []
    while True:
        at = next((i for i, one in enumerate(block) if one.lineno <= line <= (one.end_lineno or line)), None)
        if at is None:
            return ()
        defines = isinstance(block[at], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        following = [] if defines else block[at + 1 :] + following
        inner = [body for body in _blocks(block[at]) if body[0].lineno <= line]
        if not inner:
            break
        block = inner[-1]
    assigned: set[str] = set()
    found = []
    for statement in (block[at], *following[:_FOLLOWING]):
        assigned |= _assigned(statement)
        found.append(tuple(one for one in _readable(statement, None, False) if not _takes(one, assigned)))
    return tuple(found)


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of statements that a statement holds, in the order of the file."""
    held = (getattr(statement, name, None) for name in ("body", "handlers", "orelse", "finalbody"))
    found = [one for one in held if isinstance(one, list) and one]
    flat = [one.body if isinstance(one, ast.ExceptHandler) else None for block in found for one in block]
    return [one for one in found if isinstance(one[0], ast.stmt)] + [one for one in flat if one]


def _assigned(statement: ast.stmt) -> set[str]:
    """What a statement itself assigns, in whole or in part, or adds to."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if isinstance(statement, (ast.For, ast.AsyncFor)):
        targets = []
    flat = [one for target in targets if target for one in getattr(target, "elts", [target])]
    called = [one.func for one in ast.walk(statement) if isinstance(one, ast.Call)]
    flat += [one.value for one in called if isinstance(one, ast.Attribute) and one.attr in _ADDING]
    return {ast.unparse(_whole(one)) for one in flat}


def _whole(target: ast.expr) -> ast.expr:
    """What a part of is assigned."""
    while isinstance(target, (ast.Subscript, ast.Starred)):
        target = target.value
    return target


def _takes(named: Named, assigned: set[str]) -> bool:
    """Whether any of what was assigned is part of it."""
    parts = (one for one in ast.walk(named.node) if isinstance(one, (ast.Name, ast.Attribute)))
    return any(ast.unparse(one) in assigned for one in parts)


def _readable(node: ast.AST, called: ast.expr | None, inverted: bool) -> Iterator[Named]:
    """The largest expressions within a node that can be read."""
    if isinstance(node, ast.expr) and not isinstance(node, ast.Constant) and _is_readable(node):
        yield Named(node, called, inverted)
        return
    if isinstance(node, ast.Call):
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if owner is None or not _is_readable(owner):
            yield from _readable(node.func, called, inverted) if owner is not None else ()
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _ARRANGED:
            yield Named(owner, called, inverted)
        within = node.func if _is_readable(node.func) else called
        for one in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from _readable(one, within, False)
        return
    inverts = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)
    for child in ast.iter_child_nodes(node):
        yield from _readable(child, called, inverted != inverts)


def _is_readable(node: ast.AST | None) -> bool:
    """Whether nothing of the user's runs to tell its value, once what it names are tensors, arrays and containers."""
    match node:
        case None | ast.Constant() | ast.Name(ctx=ast.Load()):
            return True
        case ast.Attribute(value=owner, ctx=ast.Load()):
            return isinstance(owner, (ast.Name, ast.Attribute)) and _is_readable(owner)
        case ast.Subscript(value=owner, slice=place, ctx=ast.Load()):
            return not isinstance(owner, ast.Constant) and _is_readable(owner) and _is_place(place)
        case (
            ast.BinOp(left=left, op=op, right=ast.Constant())
            | ast.Compare(left=left, ops=[op], comparators=[ast.Constant()])
        ):
            return type(op) in _OPERATORS and not isinstance(left, ast.Constant) and _is_readable(left)
        case _:
            return False


def _is_place(node: ast.AST | None) -> bool:
    """Whether it can be read where a part is asked for."""
    match node:
        case ast.Tuple(elts=places):
            return all(_is_place(one) for one in places)
        case ast.Slice(lower=lower, upper=upper, step=step):
            return all(_is_place(one) for one in (lower, upper, step))
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
            return _is_readable(operand)
        case _:
            return _is_readable(node)


def _names(node: ast.AST) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.id for one in ast.walk(node) if isinstance(one, ast.Name)))


def _evaluated(node: ast.AST | None, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.Attribute(value=owner, attr=name):
            return _attribute(_evaluated(owner, known), name)
        case ast.Subscript(value=owner, slice=place):
            return _part(_evaluated(owner, known), _place(place, known))
        case (
            ast.BinOp(left=left, op=op, right=ast.Constant(value=number))
            | ast.Compare(left=left, ops=[op], comparators=[ast.Constant(value=number)])
        ):
            value = _evaluated(left, known)
            plain = _is_plain(value) and isinstance(number, (int, float)) and _size(value) <= _LARGE
            return _OPERATORS[type(op)](value, number) if plain else None
    return None


def _place(node: ast.AST | None, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Tuple(elts=places):
            return tuple(_place(one, known) for one in places)
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(_place(one, known) for one in (lower, upper, step)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _place(operand, known)
            return -value if type(value) is int else None
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            value = _place(operand, known)
            return ~value if _is_plain(value) and value.dtype in (torch.bool, np.bool_) else None
    return _evaluated(node, known)


def _attribute(owner: Any, name: str) -> Any:
    """What an object holds by this name, itself, in a mapping that it has or is, or in a field; no property of it is
    run."""
    if isinstance(owner, dict) and dict.__contains__(owner, name):
        return dict.__getitem__(owner, name)
    if isinstance(owner, tuple) and name in getattr(type(owner), "_fields", ()):
        return tuple.__getitem__(owner, type(owner)._fields.index(name))  # type: ignore[attr-defined]
    held = getattr(owner, "__dict__", {}) if not isinstance(owner, (Tensor, type)) else {}
    if name in held:
        return held[name]
    return next((one[name] for one in held.values() if isinstance(one, Mapping) and name in one), None)


def _part(owner: Any, place: Any) -> Any:
    """The part of a tensor, an array or a container; None where there is none, or where it would take much."""
    if isinstance(owner, (dict, UserDict)):
        held = owner.__dict__.get("data") if isinstance(owner, UserDict) else owner
        if not isinstance(held, dict) or not isinstance(place, (int, str)) or not dict.__contains__(held, place):
            return None
        return dict.__getitem__(held, place)
    if type(owner) in (list, tuple):
        try:
            return owner[place] if isinstance(place, (int, slice)) else None
        except (LookupError, TypeError):
            return None
    if not _is_plain(owner) or owner.ndim == 0 or (isinstance(owner, Tensor) and not is_measurable(owner)):
        return None
    places = place if isinstance(place, tuple) else (place,)
    if any(one is not None and not isinstance(one, (int, slice, Tensor, np.ndarray, list, range)) for one in places):
        return None
    # Numbers pick rows, as many times as they are given.
    picked = max((math.prod(one.shape) for one in places if _is_plain(one)), default=1)
    if any(_is_plain(one) for one in places) and picked * _size(owner) / max(len(owner), 1) > _LARGE:
        return None
    try:
        return owner[place]
    except (LookupError, TypeError, ValueError, RuntimeError):
        return None


def _is_plain(value: Any) -> bool:
    return type(value) in (Tensor, np.ndarray)


def _size(value: Any) -> int:
    return math.prod(value.shape)
