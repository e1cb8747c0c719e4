"""Building a suite: lm-eval's prompts for a seeded choice of items, rendered once and frozen.

What belongs here: which items, in which order, which metric a verdict rests on, and how lm-eval's
documents become `Item`s. Every request of a suite is built in one go, because a few-shot prompt
depends on how many were drawn before it; whoever needs less takes a slice.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from myosotis.retention.benchmarks import jsonl_task, kept_items, prose, safety, wikipedia
from myosotis.retention.benchmarks.prose import Passage
from myosotis.retention.benchmarks.requests import (
    ROLLING,
    WRITTEN,
    Answer,
    Encoder,
    Tokenizer,
    chat_renderer,
    tokenizer_hash,
)
from myosotis.retention.benchmarks.sampling_design import Drawn, SamplingDesign
from myosotis.retention.benchmarks.task import (
    PRIMARY,
    SHARES,
    Half,
    Item,
    Kind,
    Suite,
    Task,
    fingerprint,
    passage,
)
from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.splits import FewShot, fewshot_guard
from myosotis.retention.harness.task_index import version as harness_version
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from myosotis.retention.harness.loader import Loaded

Asked = tuple[int, int, Half, int]
"""A row that is asked: the number of its task among the members, its own, its half and stratum."""

FEWSHOT_SEED = 1234
"""lm-eval's own default."""


def build(
    tasks: Sequence[str],
    tokenizer: Tokenizer,
    *,
    context_length: int,
    items: int | None = 200,
    seed: int = 0,
    num_fewshot: int | None = 0,
    chat_template: bool = False,
    locator: DataLocator | None = None,
    designs: Mapping[str, SamplingDesign] | None = None,
    safety_prompts: str | None = None,
) -> Suite:
    """Load tasks by their lm-eval names (or general text, or a jsonl file) and render all they ask.

    `items` of each task are taken, by `seed` (None: all); a larger number takes the same and more.
    A task in `designs` is drawn by its design, which has at least `items` rows.
    No names make an empty suite, which asks nothing (`retention=none`).
    `safety_prompts` are what `should_refuse` and `should_answer` ask (None: a small set of ours).
    `num_fewshot` None means each task's own. `context_length` is the model's, in tokens. Raises
    `ConfigError` for names that cannot be used, `DataError` for data that are not at hand.
    """
    encoder = Encoder(tokenizer, context_length)
    chat = chat_renderer(tokenizer) if chat_template else None
    renderer = _Renderer(encoder, chat, num_fewshot, items, seed, designs or {})
    built: list[Task] = []
    with progress("Preparing benchmarks", total=len(tasks)) as advance:
        for name in tasks:
            if name == "prose":
                built.append(renderer.text(name, prose.passages(), prose.version(), prose.SOURCE))
            elif name == "wikipedia":
                built.append(renderer.text(name, *wikipedia.passages(locator or DataLocator())))
            elif name in safety.NAMES:
                built.append(renderer.refusals(name, safety_prompts))
            elif jsonl_task.is_own(name):
                built.append(renderer.own(Path(name).expanduser()))
            else:
                # lm-eval and `datasets` take seconds to import: only where they are asked for.
                from myosotis.retention.harness.loader import load

                built.extend(renderer.tasks(load(name, locator or DataLocator())))
            advance()
    names = [task.name for task in built]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"retention.suite names {', '.join(twice)} more than once.",
            "Name each benchmark once; a tag such as ai2_arc stands for several, and a file "
            "goes by its name without the ending.",
        )
    return Suite(tuple(built), seed, tokenizer_hash(tokenizer))


def draw_order(name: str, population: int, seed: int) -> list[int]:
    """The rows of a benchmark in the order in which they are drawn."""
    order = list(range(population))
    random.Random(f"myosotis items {seed} {name}").shuffle(order)
    return order


class _Renderer:
    """The settings that all tasks of one suite are rendered under."""

    def __init__(
        self,
        encoder: Encoder,
        chat: Callable[..., str] | None,
        num_fewshot: int | None,
        items: int | None,
        seed: int,
        designs: Mapping[str, SamplingDesign],
    ) -> None:
        self.encoder = encoder
        self.chat = chat
        self.num_fewshot = num_fewshot
        self.items = items
        self.seed = seed
        self.designs = designs

    # ------------------------------------------------------------------ which items

    def drawn(self, name: str, population: int) -> list[tuple[int, Half]]:
        """Row numbers in the order of the draw, alternately for one half and the other.

        The first k of a longer draw are a draw of k, and so are their prompts and halves.
        """
        order = draw_order(name, population, self.seed)
        taken = order if self.items is None else order[: self.items]
        return [(row, "selection" if i % 2 == 0 else "report") for i, row in enumerate(taken)]

    def design(self, name: str, population: int) -> SamplingDesign | None:
        """The design of a benchmark that has the rows it was made for."""
        design = self.designs.get(name)
        return design if design is not None and design.population == population else None

    def text(self, name: str, passages: Sequence[Passage], version: str, source: str) -> Task:
        """General text: passages of one kind, of which fewer are enough than of questions."""
        drawn = self.drawn(name, len(passages))
        enough = None if self.items is None else prose.ENOUGH
        return prose.task(name, self.encoder, passages, drawn[:enough], version, source)

    def own(self, path: Path) -> Task:
        return jsonl_task.task(path, self.encoder, self.chat, self.drawn)

    def refusals(self, name: str, place: str | None) -> Task:
        """What a model refuses: asked as a chat where there is one, whatever the suite is."""
        tokenizer = self.encoder.tokenizer
        chat = chat_renderer(tokenizer) if getattr(tokenizer, "chat_template", None) else None
        return safety.task(name, self.encoder, chat, self.drawn, place)

    # ------------------------------------------------------------------ lm-eval tasks

    def tasks(self, loaded: list[Loaded]) -> list[Task]:
        """A group becomes one task, its members the clusters, if they share a metric."""
        scored = {(kind(one), primary(one)) for one in loaded}
        if loaded[0].group and len(scored) == 1:
            return [self.pooled(loaded[0].group, loaded)]
        return [self.pooled(one.name, [one]) for one in loaded]

    def pooled(self, name: str, members: list[Loaded]) -> Task:
        """One task from all the items of its members."""
        rows = [(m, d) for m, one in enumerate(members) for d in range(len(_documents(one)))]
        guards = [self._prepare(one) for one in members]
        design = self.design(name, len(rows))
        if design is None:
            drawn = [Drawn(row, half, -1) for row, half in self.drawn(name, len(rows))]
        else:
            drawn = design.draw(name, self.items or 0, self.seed)
        asked: list[Asked] = [(*rows[one.row], one.half, one.stratum) for one in drawn]
        render = partial(self._items, name, members, guards, asked)
        items, unanswerable = _answerable(self._kept(name, members, guards, asked, render), members)
        one, shots = members[0], members[0].harness.config.num_fewshot or 0
        metric, higher = primary(one)
        notes = [one.scored_note, one.example_note if shots else "", unanswerable]
        return Task(
            name=name,
            kind=kind(one),
            metric=metric,
            higher_is_better=higher,
            chance=_chance(kind(one), metric, items),
            version=f"{one.version}, lm-eval {harness_version()}",
            source=_source(members),
            substitution="; ".join(note for note in notes if note),
            num_fewshot=shots,
            chat_template=self.chat is not None,
            population=len(rows),
            items=tuple(_clustered(items)),
            aggregations=dict(one.harness.aggregation()),
            shares=design.shares if design is not None else (),
        )

    def _items(
        self,
        name: str,
        members: Sequence[Loaded],
        guards: Sequence[FewShot | None],
        asked: Sequence[Asked],
    ) -> list[Item]:
        """Each row that is asked, rendered; in this order, which decides the examples."""
        items: list[Item] = []
        for m, row, half, stratum in asked:
            try:
                item = self.item(name, members[m], guards[m], row, half, len(members) > 1)
                items.append(replace(item, stratum=stratum))
            except DataError as error:
                where = f"Benchmark {members[m].name!r}, row {row}: "
                raise DataError(where + error.message, error.hint) from error
        return items

    def _kept(
        self,
        name: str,
        members: Sequence[Loaded],
        guards: Sequence[FewShot | None],
        asked: Sequence[Asked],
        render: Callable[[], list[Item]],
    ) -> list[Item]:
        """The same from the cache, where they are many."""
        if len(asked) < kept_items.FEW:
            return render()
        docs = [_documents(members[m])[row] for m, row, _, _ in asked]
        shots = [one.harness.config.num_fewshot or 0 for one in members]
        if any(shots) and any(guard is None for guard in guards):
            return render()
        pools = [list(g.inner.df) if g and n else [] for g, n in zip(guards, shots, strict=True)]
        about = [
            name, [one.name for one in members], [one.version for one in members], shots,
            self.chat is not None, harness_version(), FEWSHOT_SEED,
        ]  # fmt: skip
        harnesses = [one.harness for one in members]
        key = kept_items.key(about, self.encoder, harnesses, pools, docs, asked)
        if key is None:
            return render()
        judges = [
            partial(_judged, harnesses[m], doc) for (m, *_), doc in zip(asked, docs, strict=True)
        ]
        return kept_items.kept(key, render, judges)

    def _prepare(self, one: Loaded) -> FewShot | None:
        """Set the number of examples as lm-eval's `simple_evaluate` does, and seed their draw."""
        harness = one.harness
        own = harness.get_config("num_fewshot")
        if kind(one) == ROLLING:
            harness.set_config("num_fewshot", 0)
        elif self.num_fewshot is not None and own != 0:  # a task that says 0 means it
            harness.set_config("num_fewshot", self.num_fewshot)
        elif own is None:
            harness.set_config("num_fewshot", 0)
        guard = fewshot_guard(harness)
        harness.set_fewshot_seed(FEWSHOT_SEED)
        return guard

    def item(
        self, name: str, one: Loaded, guard: FewShot | None, row: int, half: Half, pooled: bool
    ) -> Item:
        """Render one document; the order of these calls decides the few-shot examples."""
        harness, doc = one.harness, _documents(one)[row]
        if guard is not None:
            guard.ask(doc)
        chat = {"apply_chat_template": self.chat is not None, "chat_template": self.chat}
        context = harness.fewshot_context(
            doc,
            num_fewshot=harness.config.num_fewshot,
            system_instruction=None,
            fewshot_as_multiturn=self.chat is not None,
            gen_prefix=harness.doc_to_prefix(doc),
            **chat,
        )
        metadata = (one.name, row, 1)
        instances = harness.construct_requests(doc=doc, ctx=context, metadata=metadata, **chat)
        instances = instances if isinstance(instances, list) else [instances]
        asked = [(i.request_type, i.arguments) for i in instances]
        with self.encoder.ahead(asked):
            requests = tuple(self.encoder.request(*one) for one in asked)
        choices, gold = _choices(harness, doc) if kind(one) == "multiple_choice" else ((), ())
        scored = [r.text[-1] for r in requests[: len(choices) or None] if r.prompt is None]
        same = len(set(scored)) == 1 and len(scored) > 1  # WinoGrande: contexts differ, not answers
        identity = f"{row}-{fingerprint(doc)}"
        return Item(
            task=name,
            id=f"{one.name}/{identity}" if pooled else identity,
            member=one.name,
            cluster=one.name if pooled else passage(doc),
            half=half,
            prompt=scored[0] if same else requests[0].text[0],
            choices=choices,
            gold=gold,
            lengths=tuple(max(1, len(t)) for t in (scored if same or not choices else choices)),
            num_bytes=tuple(max(1, len(t.encode())) for t in scored),
            requests=requests,
            judge=partial(_judged, harness, doc),
            question=_question(harness, doc, choices, gold, scored[0] if same else ""),
        )


def kind(one: Loaded) -> Kind:
    return one.harness.OUTPUT_TYPE


def primary(one: Loaded) -> tuple[str, bool]:
    """The metric that verdicts rest on, and whether higher is better."""
    if kind(one) == ROLLING:
        return "bits_per_byte", False
    reported = one.harness.higher_is_better()
    for metric in PRIMARY:
        if metric in reported:
            return metric, bool(reported[metric])
    if kind(one) == WRITTEN and reported:
        metric = next((metric for metric in SHARES if metric in reported), next(iter(reported)))
        return metric, bool(reported[metric])
    return ("acc", True) if kind(one) == "multiple_choice" else ("nll", False)


def _source(members: list[Loaded]) -> str:
    """Where the data were found; of several subsets of one data set, that data set."""
    sources = sorted({one.source for one in members})
    above = sorted({source.rsplit("/", 1)[0] for source in sources})
    return sources[0] if len(sources) == 1 else ", ".join(above)


def _documents(one: Loaded) -> Any:
    docs = getattr(one.harness, "task_docs", None)
    return one.harness.eval_docs if docs is None else docs


def _judged(harness: Any, doc: Any, answers: Sequence[Answer]) -> dict[str, Any]:
    """lm-eval's verdict on the answers, in the shape its own evaluator hands them over."""
    if harness.OUTPUT_TYPE == WRITTEN:
        from myosotis.retention.harness.loader import judged_text

        return judged_text(harness, doc, answers[0].text)
    if harness.OUTPUT_TYPE == ROLLING:
        return harness.process_results(doc, [answer.logp for answer in answers])
    return harness.process_results(doc, [(a.logp, a.greedy) for a in answers])


def _choices(harness: Any, doc: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The choices of a question and which are right, as `process_results` reads them."""
    choices = tuple(harness.doc_to_choice(doc))
    gold = harness.doc_to_text(doc) if harness.multiple_input else harness.doc_to_target(doc)
    several = gold if isinstance(gold, list) else [gold]
    right = [choices.index(g) if isinstance(g, str) and g in choices else g for g in several]
    return choices, tuple(g for g in right if isinstance(g, int) and 0 <= g < len(choices))


def _question(
    harness: Any, doc: Any, choices: Sequence[str], gold: Sequence[int], ending: str
) -> str:
    """What a document asks, and the right answer; `ending` is what all choices go on with."""
    if harness.OUTPUT_TYPE == ROLLING:
        return ""
    asked = "" if harness.multiple_input else str(harness.doc_to_text(doc))
    if choices:
        return " ".join([asked, *(choices[i] for i in gold[:1]), ending])
    target = harness.doc_to_target(doc)
    return f"{asked} {target[0] if isinstance(target, list) and target else target}"


def _answerable(items: list[Item], members: list[Loaded]) -> tuple[list[Item], str]:
    """Without the questions of which no choice is marked right (a hidden label), and a note."""
    own = any(callable(one.harness.get_config("process_results")) for one in members)
    if own or kind(members[0]) != "multiple_choice":  # a task that scores itself knows best
        return items, ""
    kept = [item for item in items if item.gold]
    if not kept:
        raise DataError(
            f"No row of the benchmark {members[0].name!r} says which choice is right.",
            "Labels of test splits are often withheld: use the validation split.",
        )
    left = len(items) - len(kept)
    return kept, f"{left} items without a right answer left out" if left else ""


def _chance(kind: Kind, metric: str, items: list[Item]) -> float | None:
    if kind == "multiple_choice":
        return math.fsum(len(i.gold) / len(i.choices) for i in items) / len(items)
    return 0.0 if metric in PRIMARY else None


def _clustered(items: list[Item]) -> list[Item]:
    """Clusters that no two items share are none."""
    if len({item.cluster for item in items}) < len(items):
        return items
    return [replace(item, cluster=None) for item in items]
