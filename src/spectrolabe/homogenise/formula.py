"""Corrections that are formulae, found by symbolic regression and chosen on stars not used for it.

Formulae of all lengths compete (Burlacu et al. 2020, GECCO, Operon); of those the shortest is taken
whose error on unseen stars is the least, within its own uncertainty. A formula is text, and read by
a parser that knows numbers, inputs, arithmetic and three functions, and nothing else.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from spectrolabe.errors import InputError

__all__ = ["Formula"]

SYMBOLS = "add,sub,mul,aq,exp,tanh,square,constant,variable"
SEARCH: dict[str, Any] = {
    "allowed_symbols": SYMBOLS,
    "objectives": ["r2", "length"],
    "population_size": 400,
    "pool_size": 400,
    "generations": 120,
    "max_evaluations": 1_000_000,
    "max_length": 40,
    "max_depth": 8,
    "optimizer_iterations": 5,
    "epsilon": 1e-4,
    "n_threads": 1,
    "random_state": 1,
}
SEARCHED = 4000  # stars at most that formulae are searched with
BEYOND = 4.0  # spreads to which differences are cut in the search
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "square": np.square,
}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
LONGEST = 5000  # characters


@dataclass(frozen=True, eq=False)
class Formula:
    """A formula of inputs x0, x1, ... with constants c0, c1, ...

    Parameters
    ----------
    shape : str
        As ``c0 + c1*x0*tanh(x2)``.
    constants : ndarray
    size : int
        Number of inputs.

    Raises
    ------
    InputError
        If it is no such formula.
    """

    shape: str
    constants: NDArray
    size: int

    def __post_init__(self) -> None:
        self(np.zeros((1, self.size)))

    @classmethod
    def fit(cls, x: NDArray, y: NDArray, weight: NDArray, unseen: NDArray) -> Formula:
        """Return a formula; ``unseen`` stars, shape (N,) of bool, say which of many."""
        try:
            from pyoperon.sklearn import SymbolicRegressor
        except ImportError as error:
            raise InputError(
                "method symbolic",
                expected="pyoperon, which finds formulae",
                found=str(error),
                fix="Install it where there is a wheel of it, or take another method.",
            ) from error
        rows = np.flatnonzero(~unseen)
        rows = np.random.default_rng(0).permutation(rows)[:SEARCHED]
        search = SymbolicRegressor(**SEARCH).fit(x[rows], np.clip(y[rows], -BEYOND, BEYOND))
        texts = {search.get_model_string(one["tree"], 8) for one in search.pareto_front_}
        found = [_from_search(text, x.shape[1]) for text in sorted(texts, key=len)]
        found = [one.again(x[rows], y[rows], weight[rows]) for one in found]
        off = [np.nan_to_num(one(x[unseen]) - y[unseen], nan=BEYOND) for one in found]
        cut = [np.minimum(np.abs(one), BEYOND) for one in off]
        miss = np.array([np.average(c, weights=weight[unseen]) for c in cut])
        best = int(np.argmin(miss))
        worse = [np.mean(c - cut[best]) <= np.std(c - cut[best]) / np.sqrt(len(c)) for c in cut]
        return found[worse.index(True)].again(x, y, weight)

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Self:
        """Return the formula with constants of other stars."""
        if not len(self.constants):
            return self
        root = np.sqrt(weight)

        def off(constants: NDArray) -> NDArray:
            value = _value(self._tree, x, constants) - y
            return np.nan_to_num(root * value, nan=1e3, posinf=1e3, neginf=-1e3)

        with np.errstate(all="ignore"):
            found = least_squares(off, self.constants, loss="soft_l1", max_nfev=50).x
        return type(self)(self.shape, found, self.size)

    def __call__(self, x: NDArray) -> NDArray:
        with np.errstate(all="ignore"):
            return np.broadcast_to(_value(self._tree, x, self.constants), len(x)).astype(float)

    @cached_property
    def _tree(self) -> ast.expr:
        if len(self.shape) > LONGEST:
            raise _no_formula(self.shape[:40] + " ...")
        try:
            return ast.parse(self.shape, mode="eval").body
        except (SyntaxError, RecursionError, ValueError) as error:
            raise _no_formula(self.shape) from error

    @classmethod
    def together(cls, fits: Sequence[Self], x: NDArray) -> NDArray:
        """Return the values of several, shape (K, N)."""
        return np.stack([one(x) for one in fits])

    @property
    def text(self) -> str:
        """The formula with its constants."""

        def number(match: re.Match[str]) -> str:
            return f"({self.constants[int(match[1])]:.4g})"

        return re.sub(r"\bc(\d+)\b", number, self.shape)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """As `spectrolabe.homogenise.functions.Function`."""
        return {"shape": self.shape, "size": self.size}, {"constants": self.constants}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """As `spectrolabe.homogenise.functions.Function`."""
        return cls(str(plain["shape"]), arrays["constants"], int(plain["size"]))


def _from_search(text: str, size: int) -> Formula:
    """A formula as Operon prints it, its numbers made constants; exponents stay numbers."""
    constants: list[float] = []

    class Named(ast.NodeTransformer):
        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            if isinstance(node.op, ast.Pow):
                node.left = self.visit(node.left)
                return node
            return self.generic_visit(node)

        def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
            if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
                return self.visit_Constant(ast.Constant(-float(str(node.operand.value))))
            return self.generic_visit(node)

        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            constants.append(float(str(node.value)))
            return ast.Name(f"c{len(constants) - 1}")

        def visit_Name(self, node: ast.Name) -> ast.AST:
            found = re.fullmatch(r"X(\d+)", node.id)
            return ast.Name(f"x{int(found[1]) - 1}") if found else node

    tree = Named().visit(ast.parse(text.replace("^", "**"), mode="eval"))
    return Formula(ast.unparse(tree), np.array(constants), size)


def _value(node: ast.expr, x: NDArray, constants: Sequence[float] | NDArray) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        one, other = (_value(part, x, constants) for part in (node.left, node.right))
        return OPERATORS[type(node.op)](one, other)
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand, x, constants))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        kind, number = node.id[0], node.id[1:]
        if number.isdecimal() and kind == "x" and int(number) < x.shape[1]:
            return x[:, int(number)]
        if number.isdecimal() and kind == "c" and int(number) < len(constants):
            return constants[int(number)]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and len(node.args) == 1
        and not node.keywords
    ):
        return FUNCTIONS[node.func.id](_value(node.args[0], x, constants))
    raise _no_formula(ast.unparse(node))


def _no_formula(found: str) -> InputError:
    return InputError(
        "formula",
        expected=f"numbers, inputs x0, x1, ..., constants c0, ..., + - * / ** and "
        f"{', '.join(FUNCTIONS)}",
        found=found,
    )
