"""Options that several commands share, as dataclasses whose fields are options."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any

__all__ = ["flattened"]


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for every field of the dataclasses among its parameters.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Size:
    ...     width: int = 1
    ...     height: int = 2
    >>> @flattened
    ... def area(size: Size, unit: str):
    ...     print(size.width * size.height, unit)
    >>> list(signature(area).parameters)
    ['width', 'height', 'unit']
    >>> area(width=3, height=4, unit="mm2")
    12 mm2
    """
    groups: dict[str, Any] = {
        name: p.annotation for name, p in signature(command).parameters.items() if is_dataclass(p.annotation)
    }

    def flat(**given: object) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    parameters = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            parameters += [
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
                for field in fields(groups[name])
            ]
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    flat.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat
