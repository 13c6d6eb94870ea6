"""Formulas as text: which columns they read, and what formulaic is given to evaluate."""

import ast
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import formulaic
import numpy as np
from formulaic.parser.types import Factor, Term
from formulaic.transforms import TRANSFORMS

from bayescombat.columns import text_label
from bayescombat.errors import DataError, listing, suggestion

__all__ = ["ParsedFormula", "check_written", "formula_text", "parse"]

QUOTED = re.compile(r"`([^`]*)`")
# Q() would read a column by a text that the parser does not see; backticks do the same openly.
FUNCTIONS = frozenset(TRANSFORMS) - {"Q"}
ROUNDING = frozenset({"clip", "round", "where"})
GROUPING = frozenset({"C", "hashed"})
CALL = re.compile(r"\w+\([^()]*\)")
POWER = re.compile(r"\b([A-Za-z_]\w*)\s*(\*\*|\^)\s*(\d+)")
MARKUP = re.compile("\x1b\\[[0-9;]*m|[\u29da\u29db]")


@dataclass(frozen=True)
class ParsedFormula:
    """A formula and the columns that it reads.

    Parameters
    ----------
    terms : formulaic.SimpleFormula
        The right-hand side, always with the intercept first.
    columns : dict of str to str
        Name of every column read, by its name within `terms`.
    grouping : frozenset of str
        Columns read inside ``C()``, whose numbers are names of groups.
    removed : frozenset of formulaic terms
        The terms that come from the formula of what is to be removed.

    Examples
    --------
    >>> parsed = parse("0 + `age (y)` + C(site)")
    >>> parsed.columns, [str(term) for term in parsed.terms]
    ({'age__y_': 'age (y)', 'site': 'site'}, ['1', 'age__y_', 'C(site)'])
    """

    terms: formulaic.SimpleFormula
    columns: dict[str, str]
    grouping: frozenset[str]
    removed: frozenset[Term] = frozenset()

    def readable(self, text: str) -> str:
        """Return a text with the columns named as the table names them."""
        renamed = {alias: name for alias, name in self.columns.items() if alias != name}
        if not renamed:
            return text
        pattern = "|".join(rf"\b{re.escape(alias)}\b" for alias in renamed)
        return re.sub(pattern, lambda match: renamed[match[0]], text)

    def of(self, name: str) -> tuple[Self, list[str]]:
        """Return the terms that read one column alone, as a formula, and the terms that read it beside others.

        Examples
        --------
        >>> parsed, others = parse("bs(age) + sex + age:sex").of("age")
        >>> [str(term) for term in parsed.terms], others
        (['1', 'bs(age)'], ['age:sex'])
        """
        alone, others = [], []
        for term in self.terms:
            read = {self.columns[alias] for factor in term.factors for alias in _read_by(factor, str(term))[0]}
            if read == {name}:
                alone.append(term)
            elif name in read:
                others.append(self.readable(str(term)))
        terms = formulaic.SimpleFormula([*formulaic.Formula("1"), *alone])
        columns = {alias: column for alias, column in self.columns.items() if column == name}
        return replace(self, terms=terms, columns=columns), others


def formula_text(covariates: str | Sequence[object] | None) -> str:
    """Return covariates as the text of a right-hand side, "" where there are none.

    Parameters
    ----------
    covariates : str, sequence of column names, or None
        A formula, or columns to be added up.

    Raises
    ------
    DataError
        If a column name holds a backtick, which formulas use as quotes.

    Examples
    --------
    >>> formula_text("~ age + sex"), formula_text(["age", "sex at birth"])
    ('age + sex', '`age` + `sex at birth`')
    """
    if covariates is None:
        return ""
    if isinstance(covariates, str):
        return covariates.strip().removeprefix("~").strip()
    names = [text_label(name) for name in covariates]
    quoting = [name for name in names if "`" in name or not name.strip()]
    if quoting:
        raise DataError(
            f"Expected covariate names that a formula can quote, found {listing(quoting)}. "
            "Rename these columns, without backticks."
        )
    return " + ".join(f"`{name}`" for name in names)


def check_written(formula: str, columns: Iterable[str]) -> None:
    """Raise a DataError if a formula reads otherwise than whoever wrote it for a table with these columns can mean.

    Parameters
    ----------
    formula : str
        As returned by `formula_text`.
    columns : iterable of str
        Names of the columns of the table.

    Raises
    ------
    DataError
        If a name with blanks or signs stands without backticks, or a column is raised to a power outside a function.

    Examples
    --------
    >>> check_written("`age (y)` + I(age**2)", ["age", "age (y)"])
    >>> check_written("scan age + sex", ["scan age", "sex"])
    Traceback (most recent call last):
        ...
    bayescombat.errors.DataError: Expected names with blanks or signs in backticks, found 'scan age' without in 'scan \
age + sex'. Write `scan age`, or give a list of names of columns instead of a formula.
    """
    known, bare = list(columns), QUOTED.sub(" ", formula)
    signed = [name for name in known if name in bare and not name.isidentifier() and re.search(r"[^\W\d]", name)]
    if signed and not _read_all(formula, known):
        raise DataError(
            f"Expected names with blanks or signs in backticks, found {listing(signed)} without in {formula!r}. "
            f"Write `{max(signed, key=len)}`, or give a list of names of columns instead of a formula."
        )
    while bare != (bare := CALL.sub(" ", bare)):
        pass
    power = POWER.search(bare)
    if power:
        name, _, degree = power.groups()
        raise DataError(
            f"Expected powers inside I() or poly(), found {power[0]!r} in {formula!r}, which in a formula is {name!r} "
            f"crossed with itself, that is {name!r}. Write I({name}**{degree}), or poly({name}, {degree}) for all "
            "powers up to it."
        )


def _read_all(formula: str, known: Iterable[str]) -> bool:
    """Tell whether a formula can be parsed and reads nothing but known columns."""
    try:
        return set(parse(formula).columns.values()) <= set(known)
    except DataError:
        return False


@lru_cache
def parse(formula: str, remove: str = "") -> ParsedFormula:
    """Parse the text of a right-hand side, and of a second one beside it.

    Parameters
    ----------
    formula : str
        As returned by `formula_text`. Names that Python could not read stand in backticks.
    remove : str
        Likewise: what is modelled jointly and taken out.

    Returns
    -------
    ParsedFormula

    Raises
    ------
    DataError
        If a formula cannot be parsed, has a response or several parts, or uses unknown functions; or if a term
        stands in both.

    Examples
    --------
    >>> list(parse("bs(age, df=4):sex").columns)
    ['age', 'sex']
    """
    aliases = _aliases(f"{formula} + {remove}")
    intercept = list(formulaic.Formula("1"))
    kept, removed = ([term for term in _terms(text, aliases) if term not in intercept] for text in (formula, remove))
    terms = formulaic.SimpleFormula([*intercept, *kept, *removed])
    columns, grouping = _columns(terms, aliases, f"{formula} + {remove}" if remove else formula)
    parsed = ParsedFormula(terms, columns, grouping, frozenset(removed))
    both = [parsed.readable(str(term)) for term in removed if term in kept]
    if both:
        raise DataError(
            f"Expected covariates either to be preserved or to be removed, found {listing(both)} in both formulas. "
            "Name each in covariates or in remove."
        )
    return parsed


def _columns(
    terms: formulaic.SimpleFormula, aliases: Mapping[str, str], text: str
) -> tuple[dict[str, str], frozenset[str]]:
    """Return the columns that terms read, by their names there, and those that are made into groups."""
    original = {alias: name for name, alias in aliases.items()}
    columns: dict[str, str] = {}
    grouping = set()
    for factor in (factor for term in terms for factor in term.factors):
        names, groups = _read_by(factor, text)
        columns |= {name: original.get(name, name) for name in names}
        grouping |= {columns[name] for name in names if groups}
    return columns, frozenset(grouping)


def _terms(formula: str, aliases: Mapping[str, str]) -> formulaic.SimpleFormula:
    plain = QUOTED.sub(lambda match: aliases[match[1]], formula)
    try:
        parsed = formulaic.Formula(plain)
    except Exception as error:
        raise DataError(
            f"Expected a formula such as 'age + sex', found {formula!r}, which cannot be parsed: "
            f"{' '.join(MARKUP.sub('', str(error)).split())}"
        ) from error
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise DataError(
            f"Expected one right-hand side such as 'age + sex', found {formula!r}. "
            "Leave out the response and '|': the features are named apart, the batch is added by itself."
        )
    return parsed


def _read_by(factor: Factor, formula: str) -> tuple[list[str], bool]:
    """Return the columns that a factor reads, and whether it makes groups of them."""
    if factor.eval_method.value == "literal":
        return [], False
    return ([factor.expr], False) if factor.eval_method.value == "lookup" else _names(factor.expr, formula)


def _aliases(formula: str) -> dict[str, str]:
    """Return a Python name for every name in backticks.

    formulaic makes such names itself, but with random parts where two would clash, so that what it learned
    under one name would not be found again.
    """
    taken = set(re.findall(r"\w+", QUOTED.sub(" ", formula)))
    aliases: dict[str, str] = {}
    for name in dict.fromkeys(QUOTED.findall(formula)):
        alias = re.sub(r"\W", "_", name)
        if not alias.isidentifier() or keyword.iskeyword(alias) or alias in FUNCTIONS:
            alias = f"_{alias}"
        while alias != name and alias in taken:
            alias += "_"
        aliases[name] = alias
        taken.add(alias)
    return aliases


def _names(expression: str, formula: str) -> tuple[list[str], bool]:
    """Return the columns that a Python expression reads, and whether it makes groups of them."""
    nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    calls = [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    unknown = [name for name in calls if name not in FUNCTIONS]
    if unknown:
        raise DataError(
            f"Expected functions of formulaic or numpy in the formula {formula!r}, found "
            f"{listing(unknown)}.{suggestion(unknown[0], FUNCTIONS)} Write numpy's as np.sqrt; quote column "
            "names with backticks; compute anything else into a column of the table first."
        )
    # A formula is stored in files: nothing in it may reach beyond arithmetic.
    other = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and not _is_elementwise(node)]
    if other:
        raise DataError(
            f"Expected elementwise functions of numpy such as np.log in the formula {formula!r}, found "
            f"{listing(other)}. center(), scale(), poly() and splines remember their table; compute anything else into "
            "a column of the table first."
        )
    return list(_read(nodes)), bool(GROUPING & set(calls))


def _is_elementwise(node: ast.Attribute) -> bool:
    """Tell whether an attribute is numpy's function of single values, as in ``np.log``, or one of the contrasts."""
    if not isinstance(node.value, ast.Name) or node.attr.startswith("_"):
        return False
    if node.value.id == "contr":
        return True
    return node.value.id == "np" and (node.attr in ROUNDING or isinstance(getattr(np, node.attr, None), np.ufunc))


def _read(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in FUNCTIONS:
            yield node.id
