"""Words as the search sees them; what is found is asked of FTS5 itself."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook.index.text import fold, match_all, match_any, shared_words, snippet, tokens


def found(text: str, expression: str | None) -> bool:
    """Whether FTS5 finds a text by an expression."""
    if expression is None:
        return False
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize = 'ascii')")
    db.execute("INSERT INTO t VALUES (?)", (" ".join(tokens(text)),))
    return db.execute("SELECT count(*) FROM t WHERE t MATCH ?", (expression,)).fetchone() == (1,)


def test_korean_becomes_overlapping_pairs_and_its_last_syllable():
    assert tokens("이미지검색 SigLIP은 recall@1") == [
        "이미", "미지", "지검", "검색", "색", "siglip", "은", "recall", "1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("이미지검색모델은 빠르다", "검색"),
        ("이미지검색모델은 빠르다", "이미지검색모델"),
        ("이미지검색모델은 빠르다", "은"),
        ("이미지검색모델은 빠르다", "모"),
        ("이미지검색모델은 빠르다", "빠르다 검색"),
        ("작은 배치에서도 손실이 줄었다", "작은 배치"),
        ("배치가 작은 학습", "작은 배치"),
        ("SigLIP은 작은 배치에 강하다", "siglip은"),
        ("모델siglip과 비교", "모델SigLIP"),
        ("商品検索の精度", "検索"),
        ("Contrastive learning", "contrastive LEARN"),
        ("Straße", "STRASSE"),
        ("recall@10 of the zeroshot_accuracy", "accuracy recall@10"),
        (unicodedata.normalize("NFD", "상품검색"), "품검"),
        ("상품검색", unicodedata.normalize("NFD", "검색")),
    ],
)
def test_a_text_is_found_by_a_query(text, query):
    assert found(text, match_all(query))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("검은색", "검색"),
        ("작은 배치", "작은 배추"),
        ("이미지 검색", "지검"),
        ("learning rate", "learn rate"),
        ("contrastive", "trastive"),
        ("a cat", "dog OR cat"),
        ("모델 siglip", "모델siglip은"),
    ],
)
def test_a_text_is_not_found_by_a_query(text, query):
    assert not found(text, match_all(query))


@pytest.mark.parametrize(
    "query", ['"', "a* OR b", "NEAR(a b)", "x : y", "-a", "^a", "{a}", "a AND", 'a" OR "b', "(("]
)
def test_the_syntax_of_fts5_is_text(query):
    assert found(f"before {query} after", match_all(query)) is any(char.isalnum() for char in query)


@given(st.text())
def test_any_text_is_found_by_itself(text):
    assert found(text, match_all(text)) is (match_all(text) is not None)
    assert found(text, match_any(text)) is (match_any(text) is not None)


@given(
    st.text(alphabet="가나다 모델검색", max_size=12),
    st.text(alphabet="가나다모델검색", min_size=1, max_size=4),
)
def test_a_korean_word_is_found_just_where_it_stands(text, word):
    assert found(text, match_all(word)) is (word in text)


def test_a_text_of_many_words_is_still_an_expression_of_fts5():
    text = " ".join(f"word{number}" for number in range(5_000))
    assert found(text, match_all(text))
    assert found("word4999", match_any(text))


def test_lone_syllables_and_short_latin_words_make_no_resemblance():
    assert shared_words("The 큰 그림 of CLIP") == {"그림", "clip"}


def test_two_spellings_of_a_text_are_one():
    assert fold(unicodedata.normalize("NFD", "각 É")) == "각 é"


def test_a_snippet_shows_the_surroundings_of_the_longest_word():
    text = "처음 " + "가" * 100 + " 상품 검색 품질이 " + "나" * 100
    shown = snippet(text, "가 품질이")
    assert "상품 검색 품질이" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) == 122
    assert snippet("line one\nline  two", "nothing") == "line one line two"
