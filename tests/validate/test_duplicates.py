"""Files with equal contents form a group, whatever their names."""

from qtablate.validate.duplicates import duplicate_groups


def test_duplicates_are_equal_contents_only(tmp_path):
    for name, content in {"a": b"12", "b": b"21", "c": b"12", "empty": b"", "void": b"", "d": b"123"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in ("a", "b", "c", "empty", "void", "d", "gone", "a")]
    assert duplicate_groups(paths) == [[0, 2, 7]]
