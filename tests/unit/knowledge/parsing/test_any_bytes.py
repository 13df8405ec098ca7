"""Whatever is uploaded: a text or one clear sentence."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import TrellisError
from app.knowledge.parsing import media
from app.knowledge.parsing.base import Limits, Parsed
from app.knowledge.parsing.parser import Parser
from tests.support import files

BEGINNINGS = [b"", b"%PDF-1.7\n", b"PK\x03\x04", b"<!doctype html>", b"\xff\xfe", b"\xef\xbb\xbf", b"---\n", b"# "]
GOOD = [files.pdf([files.REFUND]), files.word(), files.PAGE.encode(), files.REFUND.encode()]
NAMES = [None, "a.txt", "a.md", "a.html", "a.pdf", "a.docx", "a.exe", "../../a\n.txt", "ä" * 300]


@st.composite
def anything(draw: st.DrawFn) -> bytes:
    """Noise behind a known beginning, or a good file with pieces of it changed."""
    noise = draw(st.binary(max_size=200))
    if draw(st.booleans()):
        return draw(st.sampled_from(BEGINNINGS)) + noise
    good = draw(st.sampled_from(GOOD))
    place = draw(st.integers(0, len(good)))
    return good[:place] + noise + good[place + draw(st.integers(0, 500)) :]


def test_any_bytes_are_read_or_refused_and_the_parser_goes_on() -> None:
    runner = asyncio.Runner()
    parser = Parser.open(max_bytes=1 << 20, limits=Limits(wall_s=10))

    async def take(content: bytes, kind: str | None, name: str | None) -> None:
        [outcome] = await asyncio.gather(parser.text(content, kind, name), return_exceptions=True)
        if isinstance(outcome, TrellisError):
            assert outcome.status in (413, 415, 422)
            assert "\n" not in outcome.detail
        else:
            assert isinstance(outcome, Parsed)
            assert outcome.text.strip()
            assert "\0" not in outcome.text
            outcome.text.encode()
        good = await parser.text(files.REFUND.encode(), "text/plain", "good.txt")
        assert good.text == files.REFUND

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(anything(), st.sampled_from([None, *media.ACCEPTED, "image/png"]), st.sampled_from(NAMES))
    def check(content: bytes, kind: str | None, name: str | None) -> None:
        runner.run(take(content, kind, name))

    with runner:
        check()
        runner.run(parser.close())
