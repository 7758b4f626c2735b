import doctest
import re
import string
from pathlib import Path

import claimbook.site
from claimbook.site import formats
from claimbook.site.words import words

TEMPLATES = sorted((Path(claimbook.site.__file__).parent / "templates").glob("*.html"))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_fill_in_the_same_blanks() -> None:
    english, korean = words("en"), words("ko")
    assert {key: fields(text) for key, text in english.items()} == {k: fields(t) for k, t in korean.items()}
    assert all(text.strip() for text in (*english.values(), *korean.values()))


def test_every_word_of_the_templates_exists() -> None:
    used = {word for path in TEMPLATES for word in re.findall(r"\bw\.(\w+)", path.read_text("utf-8"))} - {
        "get"
    }
    assert used <= words("en").keys()


def test_korean_words_are_korean() -> None:
    same = {key for key, text in words("ko").items() if formats.language_of(text) != "ko"}
    assert same == set()


def test_no_template_turns_escaping_off() -> None:
    for path in TEMPLATES:
        assert not re.search(r"\|\s*safe\b|autoescape", path.read_text("utf-8")), path


def test_numbers_and_times_are_written_as_documented() -> None:
    assert doctest.testmod(formats).failed == 0
    assert doctest.testmod(formats).attempted > 5


def test_the_language_of_a_passage_is_told_from_its_letters() -> None:
    assert formats.language_of("recall@1이 softmax보다 높다") == "ko"
    assert formats.language_of("a sentence with 김치 in it") == "en"
    assert formats.language_of("0.41 ± 0.02") is None
