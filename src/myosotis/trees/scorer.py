"""Scoring: from a batch of rows to one log-probability a branch.

The output head runs only at positions that predict a scored token: logits of prompt tokens are
never made. A frozen head takes the short way of `lm_head.py`. One that trains runs a chunk at a
time; for the backward pass `KEPT_BYTES` of logits are kept, the rest are recomputed.

Shape suffixes as in `batch.py`; C predicting positions of a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from myosotis.trees.attention import PackingMode, packed_inputs, padded_inputs, text_config
from myosotis.trees.batch import CHUNK, Batch, stack
from myosotis.trees.forest import Row, RowGroup, pack
from myosotis.trees.lm_head import ADDED, VALUE_HEAD, Head, arithmetic
from myosotis.trees.sparse_attention import BLOCK
from myosotis.trees.tree import Target, Tree
from myosotis.utils import distributed
from myosotis.utils.device import hardware
from myosotis.utils.errors import out_of_memory

SCORER_VERSION = 7
"""Raised whenever the same model and trees would give other scores."""

KEPT_BYTES = 2**27
"""Logits of a batch that are kept for the backward pass; those of further chunks are recomputed."""

STRETCH = 4
"""How many times as long as what its trees begin with together a row may be where no activations
are kept: a fourth of it is read again in every row."""


Made = TypeVar("Made")


class TokenLogProbs(NamedTuple):
    """The same, token by token: M pairs of a scored token and a branch it lies on."""

    logp_M: Tensor  # carries gradients
    branch_M: Tensor  # index into B
    depth_M: Tensor  # position of the token along the branch's path
    value_M: Tensor | None = None  # of a value head, asked for: what it says before the token

    def taking(self, which_K: Tensor, branches: int) -> TokenLogProbs:
        """Those on K of so many branches, which are counted anew."""
        place_B = which_K.new_full((branches,), -1)
        place_B[which_K] = torch.arange(len(which_K), device=which_K.device)
        place_M = place_B[self.branch_M]
        kept = place_M >= 0
        values = None if self.value_M is None else self.value_M[kept]
        return TokenLogProbs(self.logp_M[kept], place_M[kept], self.depth_M[kept], values)


class SampledValues(NamedTuple):
    """`Sampled.critic` of the same tokens."""

    advantage_M: Tensor
    return_M: Tensor
    value_M: Tensor


class SampledLogProbs(NamedTuple):
    """`Tree.sampled` of the same tokens and branches."""

    old_M: Tensor
    reference_M: Tensor
    advantage_B: Tensor
    kl_coef_B: Tensor
    critic: SampledValues | None = None


class BranchLogProbs(NamedTuple):
    """Sums over the scored tokens of each branch; the only thing objectives see of a model.

    `logp_B` and `uniform_B` carry gradients. `uniform_B` is the weighted sum of the log-prob
    averaged over the vocabulary (for label smoothing), or None when it was not asked for.
    """

    logp_B: Tensor  # sum of weight * log-prob, fp32, in nats; of a value head, its number
    weight_B: Tensor  # sum of weights
    greedy_B: Tensor  # bool: every scored token was the most likely one
    uniform_B: Tensor | None
    tree_B: Tensor
    path_B: Tensor
    said_B: Tensor | None = None  # where labels are asked for: the number of the likeliest
    # What `objectives.with_reference` adds, where an objective asks:
    reference_B: Tensor | None = None  # the reference model's `logp_B`
    grade_B: Tensor | None = None  # of the tree: 1 or -1
    kl_estimate: float = 0.0  # what answers to other prompts have gained on the reference, in nats
    sampled: SampledLogProbs | None = None
    # What the sums are made of, token by token; the scorer always says it:
    tokens: TokenLogProbs | None = None

    def taking(self, which_K: Tensor) -> BranchLogProbs:
        """K of the branches alone; what was known of sampled tokens is left out."""
        columns = {
            name: value[which_K]
            for name, value in self._asdict().items()
            if name.endswith("_B") and value is not None
        }
        tokens = self.tokens and self.tokens.taking(which_K, len(self.tree_B))
        return self._replace(**columns, tokens=tokens, sampled=None)


@dataclass
class TreeScore:
    """One tree's scores, an entry a path in the order the paths were given."""

    logp: NDArray[np.float64]  # (P,) sum of weight * log-prob over the scored tokens, in nats
    weight: NDArray[np.float64]  # (P,) sum of weights
    greedy: NDArray[np.bool_]  # (P,) every scored token was the most likely one
    said: NDArray[np.int64] | None = None  # (P,) where labels are asked for: the likeliest


EVALUATE = "evaluate"
"""The name under which `Scorer.evaluate` asks other ranks for help."""

SPREAD_BODY = "spread_body"
"""What stands in for a model's body while its weights are spread over ranks (sharded.py)."""


class Scorer:
    """Scores trees with one model.

    As many rows go through the model together as hold the tokens of `rows_at_once` full ones of
    `row_tokens`, padding counted: short rows are more, long ones fewer. The result does not depend
    on it beyond rounding. Training and evaluation count apart: where one runs out of memory, the
    other goes on as it was. `products` is the dtype in which matrices are multiplied, where
    that is not the weights': the scorer owns the arithmetic, so that training and every measurement
    have the same.
    """

    def __init__(
        self,
        model: nn.Module,
        backend: PackingMode,
        *,
        row_tokens: int = 512,
        rows_at_once: int = 1,
        products: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.backend = backend
        self.row_tokens = row_tokens
        self.rows_at_once = rows_at_once
        self.evaluated_at_once = rows_at_once
        self.products = products
        self.forwards = 0
        # Of several ranks; see shared.py. `ask` runs a job on all of them: on the first one, while
        # the others lend a hand. `part` is (rank, ranks) inside a job: which batches are this
        # one's.
        self.ask: Callable[..., Any] | None = None
        self.part: tuple[int, int] | None = None
        # Weights are spread over ranks: each must call the model as often as any other.
        self.lockstep = False

    def with_model(self, model: nn.Module, backend: PackingMode) -> Scorer:
        """The same for another model, as many rows at once as had room by now."""
        other = Scorer(
            model,
            backend,
            row_tokens=self.row_tokens,
            rows_at_once=self.rows_at_once,
            products=self.products,
        )
        other.evaluated_at_once = self.evaluated_at_once
        return other

    def conditions(self) -> str:
        """What else than model, dtype and libraries a score depends on by rounding: how trees are
        packed, on which hardware, and in less than fp32 how many tokens share a product."""
        where = f"{self.backend.description} on {hardware(device_of(self.model))}"
        if self.products is None and mask_dtype(self.model) is torch.float32:
            return where
        return f"{where}, {self.evaluated_at_once} rows of {self.row_tokens} tokens"

    def arithmetic(self) -> AbstractContextManager[object]:
        """In which the model is to be run, here and by whoever runs it elsewhere (generation)."""
        return arithmetic(device_of(self.model), self.products)

    def batches(self, trees: Sequence[Tree]) -> list[Batch]:
        """Pack trees into batches of the tokens of `rows_at_once` full rows; a row group is never
        torn apart. Without gradients the evaluation's own count is used.

        Raises `ValueError` for trees that differ in what is to be predicted.
        """
        return [self.stacked(rows) for rows in self.together(trees)]

    def together(self, trees: Sequence[Tree]) -> list[list[Row]]:
        """The rows that go through the model together, as `batches` has them; not stacked yet,
        which takes most of the time, and can be done while a device computes the batch before."""
        learns = torch.is_grad_enabled()
        groups = pack(
            trees,
            self.row_tokens,
            stretch=1 if learns else STRETCH,
            one_path_a_row=not self.backend.packs,
        )
        if not self.backend.packs:  # rows of like length waste the least padding
            groups.sort(key=lambda g: max(len(p) for row in g for p in row), reverse=True)
        rows = self.rows_at_once if learns else self.evaluated_at_once
        together = _at_once(groups, rows * self.row_tokens, padded=not self.backend.one_row)
        if self.backend.one_row:
            together = ([list(chain.from_iterable(rows))] for rows in together)
        return list(together)

    def stacked(self, rows: Sequence[Row]) -> Batch:
        """The batch of these rows."""
        return stack(rows, self._multiple)

    def my_batches(self, trees: Sequence[Tree]) -> Iterator[Batch]:
        """The batches of `trees` that this rank scores: all of them, or inside a job every n-th of
        n ranks. With empty ones until each rank has as many, where that matters. Each is made when
        it is asked for."""
        rows = self.together(trees) if trees else []
        passes = len(rows)
        if self.part is not None:
            rank, world = self.part
            rows, passes = rows[rank::world], -(-passes // world)
        elif self.lockstep:
            passes = int(distributed.total(passes, largest=True))
        return self.until(passes, rows)

    def until(self, passes: int, rows: Sequence[Sequence[Row]]) -> Iterator[Batch]:
        """A batch of each of `rows`, and empty ones until there are so many."""
        yield from map(self.stacked, rows)
        for _ in range(passes - len(rows)):
            yield self.empty()

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Inside a job of several ranks: each scores all that it is given, for a while."""
        part, self.part = self.part, None
        try:
            yield
        finally:
            self.part = part

    def empty(self) -> Batch:
        """A batch of one row in which nothing is scored: keeps data-parallel ranks in step."""
        return stack([[]], self._multiple)

    @property
    def _multiple(self) -> int:
        """What the length of a row is rounded up to: a block, or on a GPU what its kernels take
        without copying the mask in every layer."""
        if self.backend.one_row:
            return BLOCK
        return 8 if device_of(self.model).type == "cuda" else 1

    def score(self, batch: Batch, *, uniform: bool = False, values: bool = False) -> BranchLogProbs:
        """Score one batch; differentiable. `uniform` asks for `uniform_B`, `values` for what the
        model's value head says before each scored token, too."""
        batch = batch.to(device_of(self.model))
        self.forwards += 1
        value_S = None
        with self.arithmetic():  # around all chunks: a weight is made narrower once
            if values:
                predict, hidden_ND = self._with_hidden(batch)
                head = self.model.get_submodule(VALUE_HEAD)
                value_S = head(hidden_ND)[batch.predictor_S, 0]
            else:
                predict = self.predictor(batch)
            logp_S, word_S, uniform_S = _in_chunks(predict, batch, uniform)
        weighted = batch.weight_S[batch.scored_M]
        num_branches = len(batch.tree_B)

        logp_M = logp_S[batch.scored_M]

        def per_branch(values_M: Tensor) -> Tensor:
            return values_M.new_zeros(num_branches).index_add(0, batch.branch_M, values_M)

        misses = per_branch((word_S != batch.target_S)[batch.scored_M].float())
        said_B = None
        if batch.target is Target.LABEL:  # one is asked for at the end of each branch
            said_B = word_S.new_zeros(num_branches)
            said_B[batch.branch_M] = word_S[batch.scored_M]
        return BranchLogProbs(
            logp_B=per_branch(logp_M * weighted),
            weight_B=per_branch(weighted),
            greedy_B=misses == 0,
            uniform_B=None
            if uniform_S is None
            else per_branch(uniform_S[batch.scored_M] * weighted),
            tree_B=batch.tree_B,
            path_B=batch.path_B,
            said_B=said_B,
            tokens=TokenLogProbs(
                logp_M,
                batch.branch_M,
                batch.depth_S[batch.scored_M],
                None if value_S is None else value_S[batch.scored_M],
            ),
        )

    def evaluate(
        self, trees: Sequence[Tree], advance: Callable[[int], object] | None = None
    ) -> list[TreeScore]:
        """Score trees without gradients, in evaluation mode, leaving the model's mode as it was.
        Out of memory: begun anew with half as many rows at once.

        `advance(n)` is called as `n` more trees are done.
        """
        if self.ask is not None:
            return self.ask(EVALUATE, trees, advance=advance)  # type: ignore[no-any-return]
        return self.with_room(lambda: self.evaluate_batches(trees, self.my_batches(trees), advance))

    def with_room(self, work: Callable[[], Made]) -> Made:
        """`work`, which measures; where memory runs out, begun anew with half as many rows at once.
        Of several ranks all must begin anew, which is for who asks them together (shared.py)."""
        while True:
            try:
                with torch.no_grad():
                    return work()
            except RuntimeError as error:
                alone = self.part is None and not self.lockstep
                if not (alone and out_of_memory(error)) or self.evaluated_at_once == 1:
                    raise
            self.evaluated_at_once //= 2
            torch.cuda.empty_cache()

    def evaluate_batches(
        self,
        trees: Sequence[Tree],
        batches: Iterable[Batch],
        advance: Callable[[int], object] | None = None,
    ) -> list[TreeScore]:
        """The same of these batches of the trees; what lies in others has zeros."""
        scores = [_no_score(tree) for tree in trees]
        with evaluating(self.model):
            for batch, columns in _one_behind((batch, self._columns(batch)) for batch in batches):
                where = zip(batch.tree_B.tolist(), batch.path_B.tolist(), strict=True)
                for (tree, path), values in zip(where, columns.T.tolist(), strict=True):
                    score = scores[tree]
                    into = [score.logp, score.weight, score.greedy]
                    into += [] if score.said is None else [score.said]
                    for array, value in zip(into, values, strict=True):
                        array[path] = value
                if advance is not None:
                    advance(len(set(batch.tree_B.tolist())))
        return scores

    def _columns(self, batch: Batch) -> Tensor:
        """(3, B), or (4, B) where a label was asked for: what `TreeScore` says of each branch.
        Together, so that the device is waited for once."""
        of = self.score(batch)
        told = [of.logp_B, of.weight_B, of.greedy_B]
        told += [] if of.said_B is None else [of.said_B]
        return torch.stack([x.to(of.logp_B.dtype) for x in told])

    def evaluate_tokens(
        self, trees: Sequence[Tree], advance: Callable[[int], object] | None = None
    ) -> list[NDArray[np.float64]]:
        """As `evaluate`, token by token: of each tree (P, D), the log-prob of the scored token at a
        depth of a path, 0 where none is scored."""
        found = self.with_room(lambda: self._tokens(trees, False, advance))
        return [logp_PD for logp_PD, _ in found]

    def evaluate_values(
        self, trees: Sequence[Tree], advance: Callable[[int], object] | None = None
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """As `evaluate_tokens`, and what the value head says before each token; both (P, D)."""
        return self.with_room(lambda: self._tokens(trees, True, advance))

    def _tokens(
        self, trees: Sequence[Tree], values: bool, advance: Callable[[int], object] | None
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        found = [(np.zeros((len(t.leaves), t.longest)), np.zeros((len(t.leaves), t.longest)))
                 for t in trees]  # fmt: skip
        with evaluating(self.model):
            for batch in self.batches(trees):
                of = self.score(batch, values=values)
                assert of.tokens is not None
                tree, path = (column[of.tokens.branch_M] for column in (of.tree_B, of.path_B))
                said = of.tokens.logp_M if of.tokens.value_M is None else of.tokens.value_M
                columns = tree, path, of.tokens.depth_M, of.tokens.logp_M, said
                for t, p, d, logp, value in zip(*(c.tolist() for c in columns), strict=True):
                    found[t][0][p, d], found[t][1][p, d] = logp, value
                if advance is not None:
                    advance(len(set(of.tree_B.tolist())))
        return found

    def _with_hidden(self, batch: Batch) -> tuple[Predict, Tensor]:
        """As `predictor`, and the hidden states at the predicting positions (N, D)."""
        seen: list[Tensor] = []
        hook = body(self.model).register_forward_hook(
            lambda module, given, said: seen.append(said.last_hidden_state)
        )
        try:
            predict = self.predictor(batch)
        finally:
            hook.remove()
        return predict, seen[0].flatten(0, 1)[batch.source_N]

    def predictor(self, batch: Batch) -> Predict:
        """Run the body of the model; what stands at the predicting positions, and the head that
        predicts the batch's target.

        For scorers of other things than log-probs (`kl.py`), too; `batch` is on the device.
        """
        # Without a mask transformers would ask a device whether positions restart.
        one_path = batch.layout.one_path and not self.backend.one_row
        if one_path and batch.layout.full and self.backend.packs:
            inputs = {}  # plain causal attention: no mask need be looked at
        elif one_path or not self.backend.packs:
            inputs = padded_inputs(batch)
        else:
            config, dtype = text_config(self.model), mask_dtype(self.model)
            inputs = packed_inputs(batch, config, dtype, self.backend)
        inputs |= {"input_ids": batch.ids_RL, "use_cache": False}
        added = ADDED.get(batch.target)
        if added or self.backend.fast_head:
            with self.arithmetic():
                hidden_RLD = body(self.model)(**inputs).last_hidden_state
            head = self.model.get_submodule(added) if added else Head(self.model, self.products)
            return hidden_RLD.flatten(0, 1)[batch.source_N], head
        keep = torch.zeros_like(batch.ids_RL, dtype=torch.bool)
        keep.view(-1)[batch.source_N] = True
        with self.arithmetic():
            return self.model(**inputs, logits_to_keep=keep).logits, _as_is


def _no_score(tree: Tree) -> TreeScore:
    paths = len(tree.leaves)
    said = np.zeros(paths, np.int64) if tree.target is Target.LABEL else None
    return TreeScore(np.zeros(paths), np.zeros(paths), np.zeros(paths, bool), said)


Predict = tuple[Tensor, Callable[[Tensor], Tensor]]
"""What stands at the N predicting positions, and the function that makes logits of it."""


def _one_behind(made: Iterator[Made]) -> Iterator[Made]:
    """Each once the next one is made: a device that is asked for the one has the other to do."""
    before: list[Made] = []
    for item in made:
        yield from before
        before = [item]
    yield from before


def _as_is(logits_CV: Tensor) -> Tensor:
    return logits_CV


def _in_chunks(
    predict: Predict, batch: Batch, uniform: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-probs, likeliest words (of a value -1) and (asked for) vocabulary means of the S scored
    tokens."""
    values_ND, head = predict
    if batch.target is Target.VALUE:
        value_S = head(values_ND)[batch.predictor_S, 0].float()
        return value_S, torch.full_like(batch.target_S, -1), None
    if isinstance(head, Head) and head.frozen(values_ND):
        return head.log_probs(values_ND, batch.predictor_S, batch.target_S, uniform)
    starts, cuts = range(0, len(values_ND), CHUNK), batch.layout.cuts
    parts: list[tuple[Tensor, ...]] = []
    kept_bytes = 0
    for start, low, high in zip(starts, cuts, cuts[1:], strict=False):
        chunk = values_ND[start : start + CHUNK]
        which, target = batch.predictor_S[low:high] - start, batch.target_S[low:high]
        if torch.is_grad_enabled() and kept_bytes >= KEPT_BYTES:
            part = checkpoint(
                _score_chunk,
                head,
                chunk,
                which,
                target,
                uniform,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing random in a head, and a device would be asked
            )
        else:
            logits_CV = head(chunk)
            kept_bytes += logits_CV.numel() * 4
            part = _pick(logits_CV, which, target, uniform)
        parts.append(part)  # type: ignore[arg-type]
    if not parts:  # an empty row: keep it in the graph, so that every rank has a backward pass
        nothing = head(values_ND).sum(-1).float()
        return nothing, nothing.long(), nothing if uniform else None
    logp_S, word_S, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return logp_S, word_S, rest[0] if rest else None


def _score_chunk(
    head: Callable[[Tensor], Tensor],
    chunk: Tensor,
    which_S: Tensor,
    target_S: Tensor,
    uniform: bool,
) -> tuple[Tensor, ...]:
    return _pick(head(chunk), which_S, target_S, uniform)


def _pick(
    logits_CV: Tensor, which_S: Tensor, target_S: Tensor, uniform: bool
) -> tuple[Tensor, ...]:
    """Log-prob of each scored token, the likeliest in its place, and (asked for) the vocabulary's
    mean."""
    if logits_CV.dtype in (torch.float16, torch.bfloat16):  # sums over a vocabulary need fp32
        logits_CV = logits_CV.float()
    word_S = logits_CV.detach().argmax(-1)[which_S]
    logp_S = _LogProb.apply(logits_CV, which_S, target_S)
    if not uniform:
        return logp_S, word_S
    return logp_S, word_S, (logits_CV.mean(-1) - logits_CV.logsumexp(-1))[which_S]


class _LogProb(torch.autograd.Function):
    """logits[which, target] - logsumexp(logits)[which], with one pass backward in one buffer.

    The gradient is g·(onehot - softmax); autograd would make four tensors of the logits' size.
    """

    @staticmethod
    def forward(ctx: Any, logits_CV: Tensor, which_S: Tensor, target_S: Tensor) -> Tensor:
        norm_C = logits_CV.logsumexp(-1)
        ctx.save_for_backward(logits_CV, norm_C, which_S, target_S)
        return logits_CV[which_S, target_S] - norm_C[which_S]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_S,) = grads
        logits_CV, norm_C, which_S, target_S = ctx.saved_tensors
        total_C = torch.zeros_like(norm_C).index_add_(0, which_S, grad_S)
        grad_CV = torch.sub(logits_CV, norm_C[:, None]).exp_().mul_(-total_C[:, None])
        grad_CV.index_put_((which_S, target_S), grad_S, accumulate=True)
        return grad_CV, None, None


def _at_once(groups: Sequence[RowGroup], tokens: int, *, padded: bool) -> Iterator[list[Row]]:
    """The rows of as many groups as there is room for, and of one at least. `padded`: every row
    takes as much room as the longest of them."""
    rows: list[Row] = []
    room = longest = 0
    for group in groups:
        lengths = [sum(map(len, row)) for row in group]
        longer = max(longest, *lengths)
        taken = longer * (len(rows) + len(group)) if padded else room + sum(lengths)
        if rows and taken > tokens:
            yield rows
            rows, longer = [], max(lengths)
            taken = longer * len(group) if padded else sum(lengths)
        rows = [*rows, *group]
        room, longest = taken, longer
    if rows:
        yield rows


def scorer_version() -> str:
    """What else than model, trees, dtype and packing mode a score depends on: this scorer, and the
    libraries that a forward pass runs through."""
    libraries = (f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    return ", ".join([f"scorer {SCORER_VERSION}", *libraries])


def body(model: nn.Module) -> nn.Module:
    """The model without its output head."""
    return getattr(model, SPREAD_BODY, None) or getattr(model, model.base_model_prefix)  # type: ignore[arg-type]


def mask_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the hidden states, which the additive mask must have too."""
    return model.get_input_embeddings().weight.dtype  # type: ignore[operator, no-any-return]


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and evaluation mode inside; every submodule's mode restored after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
