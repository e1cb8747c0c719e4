"""The README and the site: short, no broken links, and every command and example in them works."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from myosotis.cli import COMMANDS
from myosotis.config import compose
from tests.world import call

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
HISTORY = {"decisions.md", "log.md"}  # what was said and run then
TOLD = [page for page in PAGES if page.name not in HISTORY]
EXTENDING = sorted((DOCS / "extending").glob("*.md"))

FENCED = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMPOSED = ("train", "sweep", "plan", "audit", "demo")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, title ("" without one) and content of each fenced block."""
    for language, options, content in FENCED.findall(page.read_text("utf-8")):
        title = re.search(r'title="([^"]+)"', options)
        yield language, title.group(1) if title else "", content


def outside_code(page: Path) -> str:
    """The page without its code, in blocks and in lines."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text("utf-8")))


def in_blocks(page: Path) -> list[list[str]]:
    """The words of every command in a console block, without comments."""
    lines = [
        line.removeprefix("$ ")
        for language, _, content in blocks(page)
        if language == "console"
        for line in content.splitlines()
        if line.startswith("$ ")
    ]
    return [shlex.split(line, comments=True) for line in lines]


def in_lines(page: Path) -> list[list[str]]:
    """The words of every `myosotis …` between backticks that is a whole command."""
    text = FENCED.sub("", page.read_text("utf-8"))
    found = re.findall(r"`(myosotis [^`\n]+)`", text)
    return [shlex.split(line) for line in found if not re.search(r"…|COMMAND|NAME", line)]


def files(page: Path, folder: Path) -> list[Path]:
    """Write every titled block of a page below `folder`."""
    written = []
    for _, title, content in blocks(page):
        if title:
            path = folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")
            written.append(path)
    return written


@cache
def generator() -> ModuleType:
    """docs/generate.py, as a module."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Pages.


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_and_image_exists(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", outside_code(page))
    local = [t.partition("#")[0] for t in targets if not re.match(r"(https?|mailto):", t)]
    missing = [t for t in local if t and not (page.parent / t).exists()]
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    """Each page once."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))

    def pages(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
            return
        for child in node.values() if isinstance(node, dict) else node:
            yield from pages(child)

    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    listed = list(pages(config["nav"]))
    assert sorted(listed) == sorted(there)


def test_generated_pages_are_up_to_date() -> None:
    """`python docs/generate.py` writes them anew."""
    stale = [path.name for path, text in generator().written().items() if path.read_text() != text]
    assert not stale


@pytest.mark.parametrize("page", TOLD, ids=name_of)
def test_json_on_the_pages_is_json(page: Path) -> None:
    for language, title, content in blocks(page):
        if language == "json":
            for part in content.splitlines() if title.endswith(".jsonl") else [content]:
                json.loads(part)


# Commands.


@pytest.mark.parametrize("page", TOLD, ids=name_of)
def test_every_myosotis_command_parses(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command exists, its arguments are known, and its configuration composes."""
    files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in [*in_blocks(page), *in_lines(page)]:
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]  # the environment
        if words[:1] == ["myosotis"] and not being_built(words):
            parses(words[1], words[2:])


def being_built(words: list[str]) -> bool:
    """Loggers are a group of their own soon; then this is to go."""
    return any(word.startswith("logger=") for word in words) and not (ROOT / "conf/logger").is_dir()


def parses(command: str, words: list[str]) -> None:
    if command.startswith("-"):
        return  # --help, --version, -sc
    assert command in COMMANDS, f"myosotis {command}"
    if not words and command != "train":
        return  # only named
    if command in COMPOSED:
        if not {"--help", "-h"} & {*words}:
            composes(command, words)
        return
    parsed = generator().parser_of(command).parse_intermixed_args(words)
    compose([word for word in parsed.overrides if "=" in word])


def composes(command: str, words: list[str]) -> None:
    """The first job of what is asked for."""
    folder, name = None, "train"
    if command == "sweep":
        own, name = Path("sweeps") / f"{words[0]}.yaml", words[0]  # a study of the page itself
        folder = str(own.parent.resolve() if own.exists() else ROOT / "sweeps")
        words = words[1:]
    overrides, rest = [], iter(words)
    for word in rest:
        if word in ("-cd", "--config-dir"):
            folder = next(rest)
        elif word in ("-cn", "--config-name"):
            name = next(rest)
        elif word in ("--cfg",):
            next(rest)
        elif not word.startswith(("-", "hydra.", "hydra/")):
            overrides.append(first_value(word))
    if folder == "sweeps":
        folder = str(ROOT / "sweeps")
    compose(overrides, name, folder)


def first_value(word: str) -> str:
    """`a=1,2` becomes `a=1`; commas inside brackets and braces stay."""
    depth = 0
    for place, character in enumerate(word):
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            return word[:place]
    return word


@pytest.mark.parametrize("page", TOLD, ids=name_of)
def test_other_commands_name_what_exists(page: Path) -> None:
    """Targets of the Makefile, scripts of `bench/` and `docs/`, extras of the package."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = page.read_text("utf-8")
    for target in re.findall(r"^\$ make (\w+)|`make (\w+)`", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for script in re.findall(r"\b(?:bench|docs)/\w+\.py\b", text):
        assert (ROOT / script).is_file(), script
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extras in re.findall(r"pip install -e '\.\[([\w,]+)\]'", text):
        assert {*extras.split(",")} <= {*project["optional-dependencies"]}


# Worked examples.


def test_the_files_that_the_architecture_names_exist() -> None:
    """Every row of "Where is …?" leads to a file: 37 behaviours."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`([a-z_/]+\.py)`", page.split("### Where is …?")[1].split("## 3.")[0])
    assert len(named) == 37
    gone = [name for name in named if not (ROOT / "src" / "myosotis" / name).is_file()]
    assert not gone


def test_every_extending_page_has_an_example() -> None:
    with_example = [page.stem for page in EXTENDING if any(title for _, title, _ in blocks(page))]
    assert len(with_example) == len(list(EXTENDING))
    assert with_example == ["benchmark", "callback", "data", "method", "metric", "objective"]


PAIRS = [
    {"prompt": f"the answer of {n}", "chosen": f"is {n * 7}", "rejected": f"is {n}"}
    for n in range(1, 41)
]


@pytest.mark.slow
@pytest.mark.parametrize("page", EXTENDING, ids=lambda page: page.stem)
def test_the_worked_examples_run(
    page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, on a model of two layers instead of the default one."""
    files(page, tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    for words in in_blocks(page):
        while "=" in words[0]:
            monkeypatch.setenv(*words[0].split("=", 1))
            words = words[1:]
        command, *rest = words[1:]
        call([command, *rest, *small(command, rest, world)], tmp_path)


def small(command: str, words: list[str], world: Path) -> list[str]:
    """What makes a run of the worked examples short, where they do not say otherwise."""
    given = {"model": "local", "model.path": world / "model", "data.row_tokens": 64}
    groups = {word.partition("=")[0] for word in words}
    if "data" not in groups:
        pairs = "method=dpo" in words
        given["data"] = "pairs" if pairs else "jsonl"
        given["data.path"] = "pairs.jsonl" if pairs else world / "mine.jsonl"
    if not {"retention", "retention.suite"} & groups:
        given["retention.suite"] = "[]"
    given |= {
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "trainer.num_threads": 1,
        "retention.items": 30,
        "retention.every": "null",
        "task.generate": 0,
        "task.shots": 0,
    }
    said = {word.partition("=")[0] for word in words}
    return [f"{key}={value}" for key, value in given.items() if key not in said]


@pytest.mark.parametrize("page", EXTENDING, ids=lambda page: page.stem)
def test_the_tests_of_the_examples_pass(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for path in files(page, tmp_path):
        if path.name.startswith("test_"):
            found = {n: f for n, f in runpy.run_path(str(path)).items() if n.startswith("test_")}
            assert found
            for test in found.values():
                test()
