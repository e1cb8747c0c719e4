"""The docstrings task: which functions and sentences are taken, and the cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from myosotis.data import docstrings
from myosotis.data.functions import documented, first_sentence, identity

FILE = '''
class Reader:
    """A class."""

    @property
    def size_in_bytes(self, path):
        """Return the number of bytes that the file takes on disk.

        Links are followed.
        """
        status = os.stat(path)
        # a comment stays
        return status.st_size + self.header_size_in_bytes

    def nothing_but_words(self, first, second, third, fourth, fifth, sixth, seventh):
        """Return something that is declared elsewhere."""

    def declared_only(self, first, second, third, fourth, fifth, sixth, seventh, eighth):
        """Return something that a subclass computes."""
        raise NotImplementedError("a subclass has to say what this does, at some length")

def get_size(first, second, third, fourth):
    """Get the size."""
    return first + second + third + fourth + len([first, second, third, fourth])

def one_line(first_argument, second_argument): "Return the sum of both of them."; return 1 + 1 + 1

def short():
    """Return the number one, always."""
    return 1
'''


def test_the_source_comes_without_its_docstring() -> None:
    ((line, source, sentence),) = documented(FILE, 600)
    assert line == 6
    assert sentence == "Return the number of bytes that the file takes on disk."
    assert source == (
        "def size_in_bytes(self, path):\n"
        "    status = os.stat(path)\n"
        "    # a comment stays\n"
        "    return status.st_size + self.header_size_in_bytes"
    )


def test_long_functions_and_files_that_do_not_parse() -> None:
    assert list(documented(FILE, 100)) == []
    assert list(documented('"""\nprint "python 2"', 600)) == []
    assert list(documented("\0" + FILE, 600)) == []


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Compute the mean of a list", "Compute the mean of a list."),
        ("Compute the mean, e.g. of a list. Then more.", "Compute the mean, e.g. of a list."),
        ("Return the ``size`` of :class:`~os.path` here.", "Return the size of path here."),
        ("Return the `Array <x.y>`_ of\n    all sizes.\n\nMore.", "Return the Array of all sizes."),
        ("Parse it as version 3.11 of the language.", "Parse it as version 3.11 of the language."),
        ("Make the tree of them.\nArgs:\n  x: y", "Make the tree of them."),
        ("Make a list of the\n- one thing", ""),
        ("Too short.", ""),
        ("lower case comes from fragments of text.", ""),
        ("See the documentation of the other one.", ""),
        ("Deprecated since the version before this one.", ""),
        ("Return the following of all things:", ""),
        ("Retourne la taille du fichier donné.", ""),
        ("Return x_i = y_i for all of them.", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_sentences(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


def test_copies_are_known_by_all_but_their_name() -> None:
    assert identity("def f(x):\n    return x") == identity("def g(x):\n  return x")
    assert identity("def f(x):\n    return x") != identity("def f(y):\n    return y")


def test_a_harvest_is_cached_and_made_again_when_damaged(tmp_path: Path) -> None:
    first = docstrings.load(["rich", "joblib"], max_source_chars=600, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    os.utime(file, ns=(0, 0))
    assert docstrings.load(["rich", "joblib"], max_source_chars=600, cache=tmp_path) == first
    assert file.stat().st_mtime_ns == 0  # read, not written
    file.write_bytes(before[:-10])
    assert docstrings.load(["rich", "joblib"], max_source_chars=600, cache=tmp_path) == first
    assert file.read_bytes() == before
    docstrings.load(["rich", "joblib"], max_source_chars=500, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pair_belongs_to_the_package_named_first(tmp_path: Path) -> None:
    """And to no other: no source and no sentence is in twice."""
    pairs = docstrings.harvest(["rich", "joblib"], max_source_chars=600)
    assert len({identity(p.source) for p in pairs}) == len(pairs)
    assert len({p.sentence.casefold() for p in pairs}) == len(pairs)
    assert pairs == docstrings.harvest(["rich", "joblib"], max_source_chars=600)


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="the docstrings are not cached"):
        found = docstrings.load(["joblib"], max_source_chars=600, cache=tmp_path / "file")
    assert found.pairs
