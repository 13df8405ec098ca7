"""The templates: everything is escaped, an unknown name is an error."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined

from app.web.pack_pages import PackPages
from app.web.show import filters

OWN = Path(__file__).parent


def build_templates(packs: Mapping[str, PackPages]) -> Environment:
    """The shell's templates by their names, each pack's as `<pack>/<name>`."""
    of_packs = {name: FileSystemLoader(pages.templates) for name, pages in packs.items()}
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(OWN / "templates"), PrefixLoader(of_packs)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {name: text for pages in packs.values() for name, text in pages.words.items()}
    environment.filters.update(filters(words))
    return environment
