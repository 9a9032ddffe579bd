"""The shell of drawn pages."""

from html.parser import HTMLParser

from isogloss.models.pages.page import page, readable, svg


def test_no_title_and_no_explanation_becomes_markup():
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

    made = page("a <b>", "read <i>so", svg('a "<u>"', (3, 4), ["<g/>"]), "p { color: red }")
    Reader().feed(made)
    assert tags == ["html", "head", "meta", "title", "style", "body", "h1", "p", "svg", "g"]
    assert 'width="3" height="4" viewBox="0 0 3 4"' in made
    assert "p { color: red }" in made


def test_labels_show_white_space_and_are_short():
    assert readable(" the\n") == "·the⏎"
    assert readable("Ġthe") == "·the"
    assert readable("\x00") == "�"
    assert len(readable("x" * 40)) == 12
