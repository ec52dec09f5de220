"""The keys of a configuration: what one means and allows stands at its field, and nowhere else.

Reading checks the bounds, and the tables of ``docs/configuration.md`` are written from the fields.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar, overload

T = TypeVar("T")
_KEY = "key"


@dataclass(frozen=True)
class Key:
    """What is said of a key.

    Args:
        meaning: one line for the reference.
        at_least: least value; what is None has no bound.
        above: value that it must exceed.
        at_most: greatest value.
        allowed: what its type does not say, in words, such as its unit.
        registry: full name of the mapping whose keys are the values allowed, such as
            ``mucald.aggregation.RULES``, or whose classes have the arguments allowed as fields; what builds
            the thing refuses others.
    """

    meaning: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    allowed: str = ""
    registry: str = ""

    def broken(self, name: str, value: Any) -> str | None:
        """Return what is wrong with a value of the key ``name``, or None."""
        if value is None:
            return None
        if self.at_least is not None and value < self.at_least:
            wanted = f"be at least {self.at_least}" if self.at_least else "not be negative"
        elif self.above is not None and value <= self.above:
            wanted = f"be above {self.above}" if self.above else "be positive"
        elif self.at_most is not None and value > self.at_most:
            wanted = f"be at most {self.at_most}"
        else:
            return None
        return f"{name} must {wanted}, not {value}"


@overload
def key(meaning: str, **facts: Any) -> Any: ...
@overload
def key(meaning: str, default: T, **facts: Any) -> T: ...
def key(meaning: str, default: Any = dataclasses.MISSING, *, secret: bool = False, **facts: Any) -> Any:
    """Return the field of a key, for the body of a dataclass.

    Args:
        meaning: one line for the reference.
        default: its value where a file does not give it; without one every file must.
        secret: whether its value stays out of logs.
        facts: further fields of :class:`Key`.
    """
    metadata = {_KEY: Key(meaning, **facts)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def section(cls: type[T]) -> T:
    """Return the field of a section all of whose keys have defaults."""
    return dataclasses.field(default_factory=cls)


def key_of(field: "dataclasses.Field[Any]") -> Key | None:
    """Return what is said of a field; None where it is a section."""
    return field.metadata.get(_KEY)


@dataclass(frozen=True)
class Section:
    """A dataclass whose fields are keys; none has a value out of its bounds.

    Raises:
        ValueError: a value is out of bounds; the message names its key.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            said = key_of(field)
            if said is not None and (wrong := said.broken(field.name, getattr(self, field.name))):
                raise ValueError(wrong)
