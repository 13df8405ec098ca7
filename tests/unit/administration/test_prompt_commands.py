"""The commands about prompts reach every prompt that the program loads."""

from pathlib import Path

import app
from app.container import prompt_directories


def test_every_folder_of_prompts_is_listed_and_locked() -> None:
    shipped = {path.parent for path in Path(app.__file__).parent.rglob("prompts.lock")}
    assert {path.resolve() for path in prompt_directories()} == {path.resolve() for path in shipped}
    assert len(shipped) > 1
