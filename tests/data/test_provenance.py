"""What a model was made from."""

from __future__ import annotations

from pathlib import Path

from heed.data.provenance import provenance
from heed.models.lineage import in_words
from heed.settings.common import DataSettings


def test_nobody_is_counted_where_nobody_is_named(tmp_path: Path) -> None:
    (tmp_path / "rankings.jsonl").write_text("{}\n")
    source = DataSettings(path=str(tmp_path / "rankings.jsonl"))
    assert in_words(provenance(source, 1200, ["", ""])).startswith("rankings.jsonl, 1,200 rows, sha256 ")
    assert "1 rows by 1 labeler (" in in_words(provenance(source, 1, ["", "ada"]))
    assert "rows by 2 labelers (" in in_words(provenance(source, 2, ["bob", "ada", "bob"]))
