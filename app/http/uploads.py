"""Documents as requests bring them: a form with a file, JSON with a text, the pieces that a sender cut."""

import asyncio
import hashlib
from pathlib import PurePosixPath
from typing import Annotated, Any, Self, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from app.errors import InvalidInput, UnsupportedMedia
from app.http.bots import BotName
from app.http.strict import strict_json
from app.knowledge.page import MARKDOWN, MAX_CHARACTERS, MAX_CHUNKS, MAX_TAGS, File, Page, given_chunks, slug_of
from app.knowledge.parsing.media import ACCEPTED, media_type_of

MAX_FIELDS = 40
MAX_FIELD_BYTES = 4096
FORM, JSON = "multipart/form-data", "application/json"
Model = TypeVar("Model", bound=BaseModel)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,95}$", description="Names the document within its bot.")]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=MAX_TAGS)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class TextIn(BaseModel):
    """A document as text. Without a `title`, the text's own heading counts; without a `slug`, the title names it."""

    model_config = ConfigDict(extra="forbid")

    slug: Slug | None = None
    title: Title | None = None
    text: Text
    tags: Tags = []
    media_type: str = Field(MARKDOWN, pattern=r"^text/(markdown|plain|html)$")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.slug is None and self.title is None:
            raise ValueError("give 'slug' or 'title': the document needs a name")
        return self


class ChunkIn(BaseModel):
    """Fields beside the text are not kept."""

    model_config = ConfigDict(extra="ignore")

    text: str


class StoreIn(BaseModel):
    """`document_id` is the sender's own name of the document, or `slug` is ours. `metadata` becomes tags:
    `{"topic": "price"}` is the tag `topic:price`, `{"tags": ["a"]}` the tag `a`.
    """

    model_config = ConfigDict(extra="forbid")

    bot_id: BotName
    document_id: str | None = Field(None, min_length=1, max_length=200)
    slug: Slug | None = None
    title: Title | None = None
    text: Text | None = None
    chunks: list[ChunkIn] | None = Field(None, min_length=1, max_length=MAX_CHUNKS)
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=MAX_TAGS)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.slug is None and self.document_id is None:
            raise ValueError("give 'document_id' or 'slug': the document needs a name")
        if (self.text is None) == (self.chunks is None):
            raise ValueError("give either 'text' or 'chunks'")
        return self

    def given(self) -> Page | File:
        """Raises InvalidInput for metadata that cannot be tags."""
        slug = self.slug or external_slug(self.document_id or "")
        tags = _tags_of(self.metadata)
        if self.chunks is not None:
            return given_chunks(slug, self.title or slug, [chunk.text for chunk in self.chunks], tags)
        return as_given(TextIn(slug=slug, title=self.title, text=self.text or "", tags=tags))


async def read_document(request: Request) -> Page | File:
    """The document of a request, a form or JSON.

    Raises UnsupportedMedia for another body or a file of a kind that is not read, InvalidInput for fields out of
    bounds or a file that is not what it says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return as_given(_validated(TextIn, strict_json(await request.body())))
    if kind == FORM:
        async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            return await _from_form(form)
    raise UnsupportedMedia(f"The body came as '{kind[:80]}': send a file as {FORM}, or a text as {JSON}.")


def as_given(text: TextIn) -> Page | File:
    """Markdown with a title is taken as it is; any other text is read like the file that it could have been."""
    slug = text.slug or slug_of(text.title or "")
    if text.media_type == MARKDOWN and text.title is not None and not text.text.startswith("---"):
        return Page(slug, text.title, text.text, tuple(text.tags))
    name = f"{slug}{ACCEPTED[text.media_type][0]}"
    return File.of(slug, text.title, text.text.encode("utf-8"), text.tags, text.media_type, name)


def external_slug(name: str) -> str:
    """Another system's name of a document as a slug; two names never share one."""
    slug = slug_of(name)
    return slug if slug == name else f"{slug[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _validated(model: type[Model], value: Any) -> Model:
    """Raises RequestValidationError, as the framework would for a body that it reads itself."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(items) from None


async def _from_form(form: FormData) -> File:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidInput("The form has no file: send it in the field 'file'.")
    fields = _Fields.of(form)
    content = await file.read()
    name = PurePosixPath((file.filename or "").replace("\\", "/")).name[:255] or "document"
    # Looking through the largest file and hashing it takes long enough to be felt.
    return await asyncio.to_thread(_as_file, fields, content, file.content_type, name)


class _Fields(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(extra="forbid")

    slug: Slug | None = None
    title: Title | None = None
    tags: Tags = []

    @classmethod
    def of(cls, form: FormData) -> "_Fields":
        """Raises RequestValidationError."""
        single = {name: value for name, value in form.items() if name not in ("file", "tags")}
        listed = [str(value) for value in form.getlist("tags")]
        tags = [tag.strip() for value in listed for tag in value.split(",") if tag.strip()]
        return _validated(cls, {**{name: value for name, value in single.items() if value}, "tags": tags})


def _as_file(fields: _Fields, content: bytes, declared: str | None, name: str) -> File:
    media_type = media_type_of(content, declared, name)
    return File.of(fields.slug or slug_of(name), fields.title, content, fields.tags, media_type, name)


def _tags_of(metadata: dict[str, Any]) -> list[str]:
    tags: list[str] = []
    for name, value in metadata.items():
        if name == "tags" and isinstance(value, list) and all(isinstance(tag, str) for tag in value):
            tags += value
        elif isinstance(value, str | int | float | bool):
            tags.append(f"{name}:{str(value).lower() if isinstance(value, bool) else value}")
        else:
            raise InvalidInput(f"The metadata '{name[:60]}' must be a text, a number, true or false.")
    return tags
