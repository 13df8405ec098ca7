"""`trellis chat` where nobody sits at a terminal."""

import pytest
import typer
from typer.testing import CliRunner

from app.errors import InvalidInput
from app.terminal.command import chat


@pytest.mark.parametrize(("arguments", "piped"), [([], " \n"), ([" "], "How long?")])
def test_an_empty_question_is_refused_before_anything_is_sent(arguments: list[str], piped: str) -> None:
    command = typer.Typer()
    command.command()(chat)
    with pytest.raises(InvalidInput, match="There is no question"):
        CliRunner().invoke(command, ["--as", "maria", *arguments], input=piped, catch_exceptions=False)
