"""Reports: Markdown and HTML of the same parts; the page loads nothing and escapes everything."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

from isoserve.training.evaluation.figures import new_figure, save_figure
from isoserve.training.reproduce.document import (
    Heading,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)

PARTS = [
    Heading("Title & more", 1),
    Paragraph("a < b"),
    Table(("x", "y"), (("1", "<2>"),)),
    Table(("z",), (("3",),), folded="the rest"),
    Picture("figures/one.png", "One."),
]


def test_markdown_has_tables_and_folded_tables() -> None:
    text = to_markdown(PARTS)
    assert "# Title & more\n" in text
    assert "| x | y |\n| --- | --- |\n| 1 | \\<2> |" in text
    assert "<details><summary>the rest</summary>\n\n| z |" in text
    assert "![One.](figures/one.png)" in text


def test_the_page_carries_its_pictures_and_loads_nothing(tmp_path: Path) -> None:
    save_figure(new_figure(), tmp_path / "figures" / "one.png")
    page = to_html("t", PARTS, tmp_path)
    (source,) = re.findall(r'src="([^"]*)"', page)
    prefix = "data:image/png;base64,"
    assert source.startswith(prefix)
    picture = (tmp_path / "figures" / "one.png").read_bytes()
    assert base64.b64decode(source.removeprefix(prefix)) == picture
    assert "http" not in page
    assert "<td>&lt;2&gt;</td>" in page
    assert "Title &amp; more" in page


def test_any_name_is_shown_as_it_is() -> None:
    names = ("a|b", "_x_ __y__", "`rm`", "$5 and $10", "*.png", "<b>", "[a](b)", "~~c~~", "&amp;")
    row = (*names, "[1]", "resnet9_narrow_32", r"tail\\")
    text = to_markdown([Table(row, (row,), "_folded_ <i>"), Picture("a.png", "_One_ of $2|$3")])
    assert r"$" not in text.replace(r"\$", "")  # GitHub's formulas, which this reader has not
    assert "| resnet9_narrow_32 |" in text
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    cells = re.findall("<t[dh]>(.*?)</t[dh]>", page)
    assert [html.unescape(cell) for cell in cells] == [*row, *row]
    assert re.findall('<em>(.*?)</em>|alt="(.*?)"', page) == [
        ("", "_One_ of $2|$3"),
        ("_One_ of $2|$3", ""),
    ]
    assert "<summary>_folded_ &lt;i&gt;</summary>" in text


def test_a_text_of_several_lines_is_one_line_of_a_table() -> None:
    assert to_markdown([Table(("a", "b"), (("1\n2", "3"),))]).splitlines()[-1] == "| 1 2 | 3 |"
