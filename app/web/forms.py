"""Forms as pydantic models."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)
TOKEN_FIELD = "form_token"  # noqa: S105 - a field's name


async def read_form(request: Request, model: type[Model]) -> Model:
    """The form as the model; a blank field counts as not given.

    Raises InvalidInput naming each wrong field.
    """
    form = await request.form()
    given = {name: value for name, value in form.items() if name != TOKEN_FIELD and str(value).strip()}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(" ".join(_sentence(item["loc"], item["msg"]) for item in error.errors())) from None


def _sentence(where: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in where)
    message = message.removeprefix("Value error, ")
    return f"{name.replace('_', ' ').capitalize()}: {message}." if name else f"{message}."
