"""What becomes of a good file: headings, tables, lists and letters stay; what nobody sees goes."""

import pytest

from app.knowledge.chunking import chunk_markdown
from app.knowledge.parsing.base import Limits, Parsed, Unreadable
from app.knowledge.parsing.markdown import fence, keep_references, paragraph, table, tidy
from app.knowledge.parsing.pdf import read_pdf
from app.knowledge.parsing.plain import decode, read_markdown, read_plain
from app.knowledge.parsing.web import read_html
from app.knowledge.parsing.word import read_word
from tests.support import files

GERMAN = "Größe und Maße für Käufer"


def html(source: str) -> str:
    return read_html(source.encode(), "a.html").text


def headings(parsed: Parsed) -> list[str]:
    return [chunk.heading for chunk in chunk_markdown("doc_1", "a", parsed.title or "T", parsed.text)]


def test_a_page_keeps_headings_lists_tables_and_code() -> None:
    parsed = read_html(files.PAGE.encode(), "a.html")
    assert parsed.title == "Refunds & Returns"
    assert parsed.text.split("\n\n") == [
        "# Refunds",
        "Paid within 30 days.\nGröße bold link",
        "## How 東京",
        "- Open the box\n   - Nested item\n- Send it\n   Soon\n3. First\n4. Second",
        "Plans",
        "| Plan | Price |\n| --- | --- |\n| Basic | 10 \\| 12 |\n| Both |  |",
        "```\nx = 1\n  y\n```",
        "> Said so",
        "\\# not a heading",
    ]


def test_the_chunker_cuts_a_page_at_its_headings() -> None:
    page = f"<h1>A</h1><p>{files.CARRIER * 2}</p><h2>B</h2><p>{files.REFUND * 3}</p>"
    assert headings(read_html(page.encode(), "a.html")) == ["A", "A > B"]


@pytest.mark.parametrize(
    "unseen",
    [
        "<p hidden>SECRET</p>",
        "<p style='display:none'>SECRET</p>",
        "<p style='DISPLAY : none !important'><b>SECRET</b></p>",
        "<p style='visibility:hidden'>SECRET</p>",
        "<p style='font-size:0px'>SECRET</p>",
        "<p style='font-size:1px'>SECRET</p>",
        "<p style='opacity:0'>SECRET</p>",
        "<p style='height:0;overflow:hidden'>SECRET</p>",
        "<p style='position:absolute;left:-9999px'>SECRET</p>",
        "<p style='color:white'>SECRET</p>",
        "<p style='color:#fff;background:#ffffff'>SECRET</p>",
        "<div style='background-color:#000'><span style='color:rgb(0, 0, 0)'>SECRET</span></div>",
        "<p style='color:rgba(0,0,0,0)'>SECRET</p>",
        "<table bgcolor='#eeeeee'><tr><td>a</td><td><font color='#eee'>SECRET</font></td></tr></table>",
        "<p aria-hidden=true>SECRET</p>",
        "<!-- SECRET -->",
        "<template><p>SECRET</p></template>",
        "<noscript>SECRET</noscript>",
        "<script>SECRET</script>",
        "<textarea>SECRET</textarea>",
        "<nav>SECRET</nav>",
        "<p style='display:none'><span hidden>SECRET</span></p>",
    ],
)
def test_what_a_page_does_not_show_stays_out(unseen: str) -> None:
    read = html(f"<body><p>Seen.</p>{unseen}</body>")
    assert read.startswith("Seen.")
    assert "SECRET" not in read


@pytest.mark.parametrize(
    "seen",
    [
        "<p style='color:black'>SEEN</p>",
        "<div style='background:#003366'><p style='color:white'>SEEN</p></div>",
        "<style>.hero{background:navy}</style><div class=hero><p style='color:white'>SEEN</p></div>",
        "<p style='font-size:10px'>SEEN</p>",
        "<p style='opacity:0.9'>SEEN</p>",
        "<details><summary>More</summary>SEEN</details>",
        "<p hidden='until-found'>SEEN</p>",
        "<header><h1>SEEN</h1></header>",
        "<div><div><table><tr><td><table><tr><td>SEEN</td></tr></table></td></tr></table></div></div>",
    ],
)
def test_what_a_page_shows_stays_in(seen: str) -> None:
    assert "SEEN" in html(f"<body><p>Other.</p>{seen}</body>")


def test_the_main_element_is_the_page() -> None:
    assert html("<body><div>Menu</div><main><p>Text</p></main><div>Links</div></body>") == "Text"


def test_a_body_that_a_script_would_show_is_read() -> None:
    assert html("<body style='display:none'><p>Text</p></body>") == "Text"


def test_a_deep_page_is_read_without_recursion() -> None:
    assert html("<div>" * 5000 + "deep" + "</div>" * 5000) == "deep"


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252"])
def test_a_page_is_read_in_the_charset_that_it_declares(charset: str) -> None:
    source = f"<meta charset={charset}><p>{GERMAN}</p>".encode(charset)
    assert read_html(source, "a.html").text == GERMAN


def test_a_japanese_page_is_read_in_its_own_charset() -> None:
    assert read_html("<meta charset=Shift_JIS><p>東京は大きい</p>".encode("shift_jis"), "a.html").text == "東京は大きい"


def test_a_word_file_keeps_headings_lists_and_tables() -> None:
    parsed = read_word(files.word(), "a.docx")
    assert parsed.title == "Handbook"
    assert parsed.text.split("\n\n") == [
        "# Returns in Köln",
        files.REFUND,
        "## What to send 東京",
        "- The receipt\n- A photo of it\n1. Open the form\n2. Send the form",
        "| Plan | Price |\n| --- | --- |\n| Basic | 10 \\| 12 EUR |\n| Both |  |",
        "Seen.",
    ]


def test_tracked_changes_are_read_as_accepted() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = (
        f"<w:p>{run.format('Kept ')}<w:ins>{run.format('added')}</w:ins>"
        "<w:del><w:r><w:delText>removed</w:delText></w:r></w:del></w:p>"
        f"<w:sdt><w:sdtContent><w:p>{run.format('In a form field')}</w:p></w:sdtContent></w:sdt>"
    )
    assert read_word(files.word_with_body(body), "a.docx").text == "Kept added\n\nIn a form field"


def test_a_frame_of_one_column_is_text() -> None:
    cell = "<w:tc><w:p><w:r><w:t>Framed</w:t></w:r></w:p></w:tc>"
    assert read_word(files.word_with_body(f"<w:tbl><w:tr>{cell}</w:tr></w:tbl>"), "a.docx").text == "Framed"


def test_a_pdf_is_paragraphs_again_without_its_running_heads() -> None:
    middle = "{carrier} {refund} Case {n}.\n\n- a first point {n}\n- a second point\n\n{refund}"
    page = f"Frost Handbook\n{middle}\nPage {{n}} of 4"
    pages = [page.format(carrier=files.CARRIER, refund=files.REFUND, n=number) for number in range(1, 5)]
    made = files.pdf(pages, title="Manual", outline=["Returns", "2 Lost parcels"])
    parsed = read_pdf(made, "a.pdf", Limits())
    blocks = parsed.text.split("\n\n")
    assert parsed.title == "Manual"
    assert blocks[:4] == [
        "# Returns",
        f"{files.CARRIER} {files.REFUND} Case 1.",
        "- a first point 1\n- a second point",
        files.REFUND,
    ]
    assert "# 2 Lost parcels" in blocks
    assert "Handbook" not in parsed.text
    assert "of 4" not in parsed.text


def test_a_word_parted_at_the_line_end_is_put_together() -> None:
    made = files.pdf(["The carrier pays for every lost consign-\nment that was insured."])
    assert "consignment that was" in read_pdf(made, "a.pdf", Limits()).text


def test_a_pdf_that_opens_without_a_password_is_read() -> None:
    assert files.REFUND in read_pdf(files.encrypted_pdf(files.REFUND, ""), "a.pdf", Limits()).text


def test_a_page_without_text_is_told() -> None:
    parsed = read_pdf(files.pdf([files.REFUND, ""]), "a.pdf", Limits())
    assert parsed.warnings == ("Pages without any text: 2.",)


def test_front_matter_gives_the_title_and_is_taken_off() -> None:
    parsed = read_markdown(b"---\ntitle: Refunds\ntags: [a]\n---\n# Other\n\nText", "a.md")
    assert parsed == Parsed("Refunds", "# Other\n\nText")


def test_front_matter_that_is_none_is_kept_with_a_warning() -> None:
    parsed = read_markdown(b"---\nnot: [yaml\n---\nText", "a.md")
    assert parsed.text.endswith("not: [yaml\n---\nText")
    assert "It was kept as text." in parsed.warnings[0]


def test_a_markdown_file_is_called_by_its_first_heading() -> None:
    assert read_markdown("# Maße & Größen #\n\nText".encode(), "a.md").title == "Maße & Größen"
    assert read_markdown(b"Text\n\n# Later", "a.md").title is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_by_its_mark(encoding: str) -> None:
    assert decode(f"{GERMAN} 東京".encode(encoding), "a.txt") == (f"{GERMAN} 東京", ())


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", GERMAN),
        ("cp1252", "“Smart” quotes – naïve café"),
        ("cp1251", "Привет, это обычный русский текст для проверки."),
        ("cp1250", "Zażółć gęślą jaźń, proszę"),
        ("shift_jis", "これは日本語のテキストです。東京は大きい。"),
        ("gb18030", "这是一个中文文本，用于测试编码。"),
        ("euc-kr", "안녕하세요 이것은 한국어 텍스트입니다."),
    ],
)
def test_older_encodings_are_guessed_with_a_warning(encoding: str, text: str) -> None:
    read, warnings = decode(text.encode(encoding), "a.txt")
    assert read == text
    assert "not UTF-8" in warnings[0]


def test_stray_bytes_in_utf_8_are_repaired_and_their_lines_told() -> None:
    mixed = "Größe\n".encode() + "Maße ß\n".encode("latin-1") + "東京 “ok”\n".encode() + "é".encode("latin-1")
    text, warnings = decode(mixed, "a.txt")
    assert text == "Größe\nMaße ß\n東京 “ok”\né"
    assert warnings == ("Lines 2, 4 hold characters that are not UTF-8; they were read as Windows-1252.",)


def test_plain_text_loses_no_line_to_the_chunker() -> None:
    text = read_plain(b"Notes\n\n[1]: the first note\n\n[x] done", "a.txt").text
    chunks = chunk_markdown("doc_1", "a", "A", text)
    assert "the first note" in chunks[0].text


def test_bytes_in_no_encoding_are_refused() -> None:
    with pytest.raises(Unreadable, match=r"'a\.txt' is marked as UTF-8 and is not: save it as UTF-8"):
        decode(b"\xef\xbb\xbf\xff\xfe", "a.txt")


def test_markdown_parts() -> None:
    assert table([["a", ""], ["", ""], ["b|c", "d", ""]]) == "| a |  |\n| --- | --- |\n| b\\|c | d |"
    assert table([["", " "]]) == ""
    assert fence("a ``` b") == "````\na ``` b\n````"
    assert paragraph("# a\n>b\nc - d\n---") == "\\# a\n\\>b\nc - d\n\\---"
    assert keep_references("[a]: b\n[a] b") == "\\[a]: b\n[a] b"
    assert tidy("a\u00adb\u200b \r\nc\x0b\n\n\n\nd\x00\ud800") == "ab\nc\n\nd"
    assert tidy("\u202eab\U000e0041") == "\u202eab\U000e0041"  # left for the screening to find
