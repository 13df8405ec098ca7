"""What a model wrote, as the types that it was asked for."""

import re
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

Answer = TypeVar("Answer", bound=BaseModel)

_FENCED = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?```$", re.DOTALL)
_OPENED = re.compile(r"^```[a-zA-Z]*\s*\n")
_NUL: Final = ("\0", "\\u0000")
_NAMED: Final = 5


class InvalidAnswer(ValueError):
    """`problem` says in a sentence what is wrong, without quoting the answer."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def parse_answer(kind: type[Answer], text: str) -> Answer:
    """The answer in the text, which may stand in a Markdown code fence. Raises InvalidAnswer."""
    text = text.strip()
    fenced = _FENCED.match(text)
    if any(nul in text for nul in _NUL):
        raise InvalidAnswer("It holds the character U+0000.")
    try:
        return kind.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        problems = [f"{'.'.join(map(str, item['loc'])) or 'the answer'}: {item['msg']}" for item in found[:_NAMED]]
        raise InvalidAnswer(f"It does not fit {kind.__name__} ({'; '.join(problems)}).") from None


def parse_beginning(text: str) -> Any:
    """The JSON value that a cut-off answer began, as far as it goes: its last member may be wrong or half there.

    Raises InvalidAnswer where it is not even the beginning of one.
    """
    try:
        return from_json(_OPENED.sub("", text.strip()), allow_partial=True)
    except ValueError:
        raise InvalidAnswer("It is not JSON.") from None


def parse_arguments(text: str) -> dict[str, Any] | str:
    """The arguments of a tool call, or one sentence on what is wrong with them."""
    try:
        arguments = orjson.loads(text or "{}")
    except ValueError:
        return "The arguments are not valid JSON: write one JSON object."
    if not isinstance(arguments, dict):
        return "The arguments are not a JSON object: write one JSON object."
    return arguments
