"""Makes a command of a function whose parameters are data classes: every field becomes an option.

An option's help is the field's entry in the Attributes section of the class, its range the field's `Limits`,
its panel the name of the parameter. The command's help is the function's docstring, with its Examples at the
end.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ..core.settings import Limits, check_limits, with_tuples

Kind = TypeVar("Kind")
Extra = TypeVar("Extra")
Function = Callable[..., None]
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Look:
    """How a field looks on the command line, if not as usual."""

    metavar: str | None = None
    name: str | None = None  # of the option, without the dashes
    short: str | None = None  # its letter
    argument: bool = False  # an argument instead of an option


LOOKS = {  # of fields in core, which knows no command line
    "crop": Look("ROWS COLUMNS"),
    "device": Look("auto|cpu|cuda[:N]|mps"),
    "filters": Look("NUMBER..."),
    "gamma": Look("LOW HIGH"),
    "init": Look("MODEL|default"),
    "loss": Look("NAME"),
    "offset_um": Look("UM", "offset"),
    "pad": Look("ROWS COLUMNS", "pad-to"),
    "planes": Look("zx,zy|zx|zy"),
    "voxel_um": Look("UM", "voxel-size"),
}


@dataclass(frozen=True)
class Without:
    """Fields that are not options: ``settings: Annotated[Settings, Without(["uncertainty"])]``."""

    names: Collection[str]


@dataclass(frozen=True)
class Either:
    """Kinds of settings, by panel, of which a command takes one; it gets a dict of the options given."""

    kinds: Mapping[str, type]
    without: Collection[str] = ()


def add(app: typer.Typer, function: Function) -> None:
    """Make a function a command of `app`."""
    text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples\n--------\n")
    app.command(
        function.__name__,
        help=text,
        epilog="\n\n".join(["Examples:", *examples.splitlines()]),
        cls=cast("type[TyperCommand]", partial(_Command, function=function)),
    )(lambda: None)


class _Help:
    """What this program's help does differently from Typer's: see `Group` and `_Command`."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options and arguments, the flags without a type."""
        params: Any = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            if getattr(one, "is_bool_flag", False):
                one.metavar = ""
            if str(one.name).endswith("_completion"):
                one.rich_help_panel = "Shell completion"  # where its long name has room
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line, without the braces of recent versions of Typer."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]


class Group(_Help, TyperGroup):
    """A command with subcommands."""


class _Command(_Help, TyperCommand):
    """A command that makes its options when called: ``tidemark --help`` need not load their classes."""

    def __init__(self, *args: Any, function: Function, **options: Any) -> None:
        super().__init__(*args, **options)
        self._function: Function | None = function

    def get_params(self, ctx: Any) -> Any:
        """Return the options and arguments; the first call makes them."""
        if self._function:
            alone = typer.Typer(add_completion=False)
            alone.command()(with_options(self._function))
            made = get_command(alone)
            self.params, self.callback, self._function = made.params, made.callback, None
        return super().get_params(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line after `spread_lists`."""
        lists = [name for one in self.get_params(ctx) if getattr(one, "multiple", False) for name in one.opts]
        return super().parse_args(ctx, spread_lists(args, lists))


def spread_lists(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Return ``--pad 15 30,45 RUN`` as ``--pad=15 --pad=30 --pad=45 RUN``, as the parser needs it.

    The numbers end at the first argument that is not one; a path named 15 is written ``./15``.
    """
    spread: list[str] = []
    option = None  # whose numbers are being read
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*spread, *arguments[place:]]
        name, _, value = argument.partition("=")
        if name in options and (value or _are_numbers("".join(arguments[place + 1 : place + 2]))):
            option = name
            spread += _each(name, value)
        elif option and _are_numbers(argument):
            spread += _each(option, argument)
        else:
            option = None
            spread.append(argument)
    return spread


def _each(option: str, numbers: str) -> list[str]:
    return [f"{option}={number}" for number in numbers.split(",") if number]


def _are_numbers(argument: str) -> bool:
    number = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    return bool(re.fullmatch(rf"{number}(,{number})*,?", argument))


def with_options(function: Function) -> Function:
    """Return a function with a parameter for each option, as Typer needs it, that calls the one given."""
    hints = get_type_hints(function, include_extras=True)
    del hints["return"]
    parameters = [
        one for name, hint in hints.items() for one in _parameters(hint, name.replace("_", " ").capitalize())
    ]

    def run(**given: Any) -> None:
        function(**{name: _value(hint, given) for name, hint in hints.items()})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def option_of(name: str, look: Look | None = None) -> str:
    """Return the option of a field, by default of one in core."""
    return f"--{(look or LOOKS.get(name, Look())).name or name.replace('_', '-')}"


def checked(kind: type[Kind], chosen: Mapping[str, Any]) -> Kind:
    """Return a data class made of the options; what it refuses is wrong usage."""
    try:
        settings = kind(**chosen)
        check_limits(settings)  # typer before 0.29 lets NaN pass
        return settings
    except ValueError as error:
        name, _, text = str(error).partition(": ")
        line = f"{option_of(name, _look(kind, name))}: {text}" if name in chosen else str(error)
        raise typer.BadParameter(f"{line.rstrip('.')}.") from error


def _value(hint: Any, given: Mapping[str, Any]) -> Any:
    """Return the value of a parameter of the function, from the options given."""
    kind, extras = _parts(hint)
    given = with_tuples(given)
    if either := _first(Either, extras):
        names = {one.name for kind in either.kinds.values() for one in fields(kind)} & given.keys()
        return {name: given[name] for name in names if given[name] is not None and given[name] is not False}
    chosen = {one.name: given[one.name] for one in _options(kind, extras)}
    return checked(kind, chosen)


def _parameters(hint: Any, panel: str) -> Iterator[inspect.Parameter]:
    kind, extras = _parts(hint)
    if either := _first(Either, extras):
        yield from _merged(either, panel)
    else:
        for one in _options(kind, extras):
            yield _parameter(kind, one, panel)


def _options(kind: Any, extras: Sequence[Any]) -> list[Field[Any]]:
    without = _first(Without, extras)
    return [one for one in fields(kind) if without is None or one.name not in without.names]


def _merged(either: Either, panel: str) -> Iterator[inspect.Parameter]:
    """Yield the parameters of several kinds of settings, with the defaults of each in the help."""
    found: dict[str, dict[str, tuple[type, Field[Any]]]] = {}
    for title, kind in either.kinds.items():
        for one in fields(kind):
            if one.name not in either.without:
                found.setdefault(one.name, {})[title] = kind, one
    for of in found.values():
        defaults = {title: _text(one.default) for title, (_, one) in of.items()}
        first, *_ = defaults.values()
        others = "".join(f"; {title.lower()} {text}" for title, text in defaults.items() if text != first)
        title, (kind, one) = next(iter(of.items()))
        yield _parameter(kind, one, title if len(of) == 1 else panel, first + others)


def _text(default: Any) -> str:
    if default is None:
        return ""
    numbers = default if isinstance(default, tuple) else (default,)
    return " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in numbers)


def _parameter(kind: type, of: Field[Any], panel: str, default: str | None = None) -> inspect.Parameter:
    """Return the parameter of a field; `default` is the text of a default that is not Typer's to fill in."""
    base, extras = _parts(get_type_hints(kind, include_extras=True)[of.name])
    base, parser = _for_typer(base)
    look = _look(kind, of.name)
    shown: dict[str, Any] = {"help": _documented(kind)[of.name], "metavar": look.metavar}
    if parser:
        shown |= {"parser": parser, "metavar": look.metavar or of.name.upper()}
    limits = _first(Limits, extras) or Limits()
    for end, number in (("min", limits.low), ("max", limits.high)):
        if math.isfinite(number):
            shown[end] = int(number) if number == int(number) else number
    value = inspect.Parameter.empty if of.default is MISSING else of.default
    if default is not None and base is not bool:
        base, value = base | None, None
        shown["help"] += f" Default: {default}." if default else ""
    if look.argument:
        option = typer.Argument(**shown)
    else:
        short = (f"-{look.short}",) if look.short else ()
        option = typer.Option(option_of(of.name, look), *short, rich_help_panel=panel, **shown)
    how = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(of.name, how, default=value, annotation=Annotated[base, option])


def _look(kind: type, name: str) -> Look:
    _, extras = _parts(get_type_hints(kind, include_extras=True).get(name))
    return _first(Look, extras) or LOOKS.get(name, Look())


def _parts(hint: Any) -> tuple[Any, Sequence[Any]]:
    """Return the type of a hint and its annotations."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _first(kind: type[Extra], extras: Sequence[Any]) -> Extra | None:
    return next((one for one in extras if isinstance(one, kind)), None)


def _for_typer(base: Any) -> tuple[Any, Callable[[str], Any] | None]:
    """Return a type that Typer knows, and a parser: for a tuple a list, or for one of words a single text."""
    union = get_origin(base) in (Union, UnionType)
    inner = next(one for one in get_args(base) if one is not NoneType) if union else base
    if get_origin(inner) is not tuple or get_args(inner)[-1] is not ...:
        return base, None
    element = get_args(inner)[0]
    words = get_args(element) if get_origin(element) is Literal else ()
    plain: Any = str if words else list[element]  # type: ignore[valid-type]
    return plain | None if union else plain, _one_or_more(words) if words else None


def _one_or_more(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def words(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if not set(found) <= set(known) or len(set(found)) < len(found):
            raise typer.BadParameter(f"expected {','.join(known)} or one of them, found {text}.")
        return found

    return words


def _documented(kind: type) -> dict[str, str]:
    """Return the entries in the Attributes section of a class as sentences, by field."""
    sentences: dict[str, str] = {}
    section = (inspect.getdoc(kind) or "").partition("Attributes\n----------\n")[2]
    for entry in re.split(r"\n(?=\S)", section):
        names, _, text = entry.partition(" : ")
        text = " ".join(text.split()).rstrip(".")
        sentences |= dict.fromkeys(names.split(", "), f"{text[:1].upper()}{text[1:]}.")
    return sentences
