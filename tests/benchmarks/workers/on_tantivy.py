"""tantivy over a metadata snapshot: built, then asked. Prints one JSON object.

    python on_tantivy.py SNAPSHOT FOLDER < questions

Runs in an environment of its own, so it knows only tantivy and the standard library. Titles weigh three times
what abstracts weigh; everything that matches is ranked by BM25 and counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import date
from email.utils import parsedate
from pathlib import Path
from typing import Any

from tantivy import (
    Document,
    FieldType,
    Filter,
    Index,
    Occur,
    Query,
    SchemaBuilder,
    TextAnalyzerBuilder,
    Tokenizer,
)

MEMORY, THREADS = 128_000_000, 2
ENGLISH = (
    TextAnalyzerBuilder(Tokenizer.simple())
    .filter(Filter.lowercase())
    .filter(Filter.ascii_fold())
    .filter(Filter.stemmer("english"))
    .build()
)


def schema() -> Any:
    """Everything that a result shows is stored."""
    fields = SchemaBuilder()
    for name in ("title", "abstract", "authors"):
        fields.add_text_field(name, stored=True, tokenizer_name="english")
    fields.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("categories", stored=True, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("archives", tokenizer_name="raw", index_option="basic")
    fields.add_integer_field("day", stored=True, indexed=True, fast=True)
    return fields.build()


def build(snapshot: Path, folder: Path) -> Index:
    """The index of a snapshot in arXiv's form."""
    index = Index(schema(), str(folder))
    index.register_tokenizer("english", ENGLISH)
    writer = index.writer(MEMORY, THREADS)
    with snapshot.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            categories = record["categories"].split()
            moment = parsedate(record["versions"][0]["created"])
            assert moment
            writer.add_document(
                Document(
                    id=[record["id"]],
                    title=[record["title"]],
                    abstract=[record["abstract"]],
                    authors=[record["authors"]],
                    categories=categories,
                    archives=sorted({name.partition(".")[0] for name in categories}),
                    day=date(*moment[:3]).toordinal(),
                )
            )
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def query(index: Index, question: dict[str, Any]) -> Query:
    """Every part must match; filters score nothing."""

    def musts() -> Iterator[Query]:
        for part in question["parts"]:
            words = ENGLISH.analyze(part)
            fields = []
            for name, weight in (("title", 3.0), ("abstract", 1.0), ("authors", 1.0)):
                one = Query.term_query(index.schema, name, words[0])
                found = Query.phrase_query(index.schema, name, list(words)) if len(words) > 1 else one
                fields.append(Query.boost_query(found, weight))
            yield Query.disjunction_max_query(fields, 0.1)
        if category := question["category"]:
            name = "categories" if "." in category else "archives"
            yield Query.const_score_query(Query.term_query(index.schema, name, category), 0.0)
        if question["since"]:
            days = (date.fromisoformat(question[name]).toordinal() for name in ("since", "until"))
            span = Query.range_query(index.schema, "day", FieldType.Integer, *days)
            yield Query.const_score_query(span, 0.0)

    return Query.boolean_query([(Occur.Must, one) for one in musts()])


def peak_memory() -> float:
    """Resident memory of this process at its highest, MiB; what getrusage tells may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(snapshot: Path, folder: Path) -> dict[str, Any]:
    """What building took, and the answers with their times in milliseconds."""
    begin = time.perf_counter()
    index = build(snapshot, folder)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    searcher = index.searcher()
    answers = []
    for question in json.load(sys.stdin):
        times = []
        for _ in range(question["times"]):
            begin = time.perf_counter()
            found = searcher.search(query(index, question), 20)
            papers = [searcher.doc(address).to_dict() for _, address in found.hits]
            times.append((time.perf_counter() - begin) * 1000)
        answers.append({"ms": times, "total": found.count, "ids": [paper["id"][0] for paper in papers]})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"seconds": seconds, "megabytes": size / 1e6, "peak": peak, "answers": answers}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
