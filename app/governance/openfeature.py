"""The flags as an OpenFeature provider, for code that speaks OpenFeature (https://openfeature.dev/specification)."""

# ruff: noqa: ARG002 -- the signatures are the interface's

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, TargetingKeyMissingError, TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from app.governance.flags import Flags, FlagValue

T = TypeVar("T", bool, int, float, str)


class FlagProvider(AbstractProvider):
    """Resolves from the snapshot of `Flags`. The targeting key is the tenant's id and must be given."""

    def __init__(self, flags: Flags) -> None:
        super().__init__()
        self._flags = flags

    def get_metadata(self) -> Metadata:
        return Metadata(name="trellis")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, bool, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, str, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, float, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, int, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        raise TypeMismatchError(f"'{flag_key}' holds no object: flags are yes or no, text, or numbers.")

    def _resolve(self, name: str, wanted: type[T], context: EvaluationContext | None) -> FlagResolutionDetails[T]:
        if name not in self._flags.specs:
            raise FlagNotFoundError(f"There is no flag '{name}'.")
        if context is None or not context.targeting_key:
            raise TargetingKeyMissingError("Give the tenant's id as the targeting key.")
        value = _converted(self._flags.value(name, context.targeting_key), wanted)
        if not isinstance(value, wanted):
            raise TypeMismatchError(f"'{name}' holds {value!r}, which is no {wanted.__name__}.")
        return FlagResolutionDetails(value=value, reason=Reason.CACHED)


def _converted(value: FlagValue, wanted: type[Any]) -> Any:
    """A number without a fraction is a float or an int, whichever is asked for; yes or no is neither."""
    if isinstance(value, bool) and wanted is not bool:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and wanted in (int, float):
        return wanted(value) if value == wanted(value) else value
    return value
