"""The preflight of a model, seconds long, before anything is trained: is what runs fast equal to its own forward pass?

Rows packed, sampling from a cache, the LM head on hidden states, the reward model's class: each is held against the
model's plain forward pass, a row at a time, at every token of the vocabulary. What is not equal takes the slow way,
which is exact (`bench.paths`); where the slow way is not equal either, the model is refused.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from bench.decoding import decoder, runs_cached
from bench.encoding import Tokens, rows_of
from bench.errors import ConfigError
from bench.forward import completion_hidden, last_token_scores, lm_head, logits_of, score_head
from bench.models.attention import ON_GPU, attend
from bench.models.config import Attention
from bench.models.loading import embeddings
from bench.packing import other_layers, packs, unlearn, window
from bench.paths import Paths

_SAME = 5e-3  # nats between two log-probs of one token: rounding is 1e-5 to 1e-3, what was found wrong .05 to 20
_PROMPTS = (3, 9, 6)  # tokens; with the window below: one prompt is longer, one grows beyond it
_NEW = 5
_SHORT_WINDOW = 8
_LONGEST_WINDOW = 1024  # tokens of a window that is not read from the config at every call: rows of more take too long


@dataclass(frozen=True)
class Probe:
    """What a model was found to be.

    Attributes:
        paths: the fast ways that are exact.
        said: what is said of it, a line each: the slow ways it takes, and why.
        no_reward: why no reward model can be made of it; None where one can.
    """

    paths: Paths
    said: tuple[str, ...]
    no_reward: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def probe(model: PreTrainedModel, name: str, attention: Attention = "auto") -> Probe:
    """Find the exact paths and write them into the model's config.

    Args:
        attention: by which it attends from now on. A kernel that a GPU alone has is not probed, as models are not on
            one yet: the model is as it attends by itself, and the ways that rest on sdpa are then left.

    Raises:
        ConfigError: the model cannot be run exactly by any way, or attend so; names it and the reason.
    """
    with _attending(model, attention, name) as later:
        with _quietly(model):
            found = _probe(model, name)
        if not later:
            return found
        replace(Paths.of(model), packed=False, cached=False).write(model)
        unlearn(model.base_model)
    slow = f"rows run padded, not packed, and sampling runs whole rows for every token, which is slow ({attention})"
    return replace(found, paths=Paths.of(model), said=(f"{name}: {slow}",))


@contextmanager
def _attending(model: PreTrainedModel, wanted: Attention, name: str) -> Iterator[bool]:
    """Make the model attend so: before what is done here, or, by a kernel that a GPU alone has, behind it; which of the
    two is told."""
    later = wanted in ON_GPU
    if not later:
        attend(model, wanted, name)
    yield later
    if later:
        attend(model, wanted, name)


@contextmanager
def _quietly(model: PreTrainedModel) -> Iterator[None]:
    """Within the context the model does not train, and runs on one thread: a pass over a few tokens reads weights and
    does little else, and threads that wait for each other took 15 times as long beside other processes."""
    was_training, threads = model.training, torch.get_num_threads()
    model.eval()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        model.train(was_training)


def _probe(model: PreTrainedModel, name: str) -> Probe:
    said: list[str] = []

    def settle(path: str, fast: Callable[[], float], slow: str, reason: str) -> None:
        """Try the fast way, then the slow one."""
        why = _trouble(fast)
        if why is None:
            return
        replace(Paths.of(model), **{path: False}).write(model)
        unlearn(model.base_model)
        said.append(f"{name}: {slow} ({why})")
        if (why := _trouble(fast)) is not None:
            raise ConfigError(f"model {name} cannot be compared: {reason} ({why}); choose another model")

    Paths().write(model)
    unlearn(model.base_model)
    worlds = [_World(model, _prompts(model.config), None)]
    if window(model.config) is not None:
        worlds.append(_World(model, _prompts(model.config), _SHORT_WINDOW))
    if not all(torch.isfinite(logits).all() for world in worlds for row in world.plain for logits in row):
        raise ConfigError(f"model {name} cannot be compared: its logits are not finite numbers; choose another model")

    def worst(of: Callable[[_World], float]) -> Callable[[], float]:
        return lambda: max(of(world) for world in worlds)

    settle(
        "linear_head",
        worst(_World.of_head),
        "logits come from its own forward pass, not from the LM head alone",
        "its logits are no function of its last hidden states",
    )
    settle(
        "packed",
        worst(_World.of_rows),
        "rows run padded, not packed",
        "what it says of a row changes with what stands behind the row",
    )
    if Paths.of(model).packed and not packs(model.base_model):
        said.append(f"{name}: rows run padded, not packed ({_unpacked_because(model.config)})")
    elif Paths.of(model).packed and (reach := window(model.config)) is not None:
        said.append(f"{name}: rows of more than {reach} tokens, its window, run padded, not packed")
    settle(
        "cached",
        worst(_World.of_sampling),
        "sampling runs whole rows for every token, which is slow",
        "sampled tokens do not get the log-probs of its forward pass",
    )
    if Paths.of(model).cached and not runs_cached(model):
        said.append(f"{name}: sampling runs whole rows for every token, which is slow (layers that attend otherwise)")
    return Probe(Paths.of(model), tuple(said), _no_reward(model))


class _World:
    """Rows of random tokens, two completions for each prompt, and the model's plain logits of them, a row at a time."""

    def __init__(self, model: PreTrainedModel, lengths: Sequence[int], short_window: int | None) -> None:
        self.model, self.short_window = model, short_window
        generator = torch.Generator().manual_seed(0)
        vocabulary = embeddings(model)
        avoided = {model.config.pad_token_id, model.config.eos_token_id if _is_id(model.config.eos_token_id) else None}

        def tokens(count: int) -> list[int]:
            drawn = torch.randint(vocabulary, (4 * count,), generator=generator).tolist()
            return [token for token in drawn if token not in avoided][:count]

        self.prompts = [tokens(length) for length in lengths]
        self.completions = [(tokens(_NEW), tokens(_NEW - 1)) for _ in lengths]
        self.states: list[Float[Tensor, "C H"]] = []  # of the plain rows, row by row
        with self._windowed():
            self.plain = [[self._plain(p, c) for c in pair] for p, pair in self._pairs()]

    def of_head(self) -> float:
        """How far off the head on the backbone's states is."""
        head, plain = lm_head(self.model), [logits for rows in self.plain for logits in rows]
        return max(_apart(logits_of(states, head), own) for states, own in zip(self.states, plain, strict=True))

    def of_rows(self) -> float:
        """How far off rows that run together are, as rows of their own and as pairs that share their prompts."""
        items: list[Tokens] = [(p, pair[side]) for side in (0, 1) for p, pair in self._pairs()]
        plain = torch.cat([rows[side] for side in (0, 1) for rows in self.plain])
        rows, head = rows_of(items, 0, self.model.device), lm_head(self.model)
        with self._windowed():
            return max(
                _apart(logits_of(completion_hidden(self.model.base_model, rows, pairs=pairs), head), plain)
                for pairs in (False, True)
            )

    def of_sampling(self) -> float:
        """How far off the sampler's distributions are, where it is made to draw the completions."""
        head, worst = lm_head(self.model), 0.0
        tokens = torch.tensor([c + [0] * (_NEW - len(c)) for _, pair in self._pairs() for c in pair])
        plain = [rows for pair in self.plain for rows in pair]
        left = list(range(len(plain)))
        with self._windowed():
            growing = decoder(self.model, self.prompts, 2, _NEW)
            for step in range(_NEW):
                if step:
                    growing.advance(tokens[left, step - 1].to(self.model.device))
                live = [place for place, row in enumerate(left) if step < len(plain[row])]
                if len(live) < len(left):
                    growing.keep(torch.tensor(live, device=self.model.device))
                    left = [left[place] for place in live]
                expected = torch.stack([plain[row][step] for row in left])
                worst = max(worst, _apart(logits_of(growing.hidden, head), expected))
        return worst

    def _pairs(self) -> list[tuple[list[int], tuple[list[int], list[int]]]]:
        return list(zip(self.prompts, self.completions, strict=True))

    def _plain(self, prompt: list[int], completion: list[int]) -> Float[Tensor, "C V"]:
        ids = torch.tensor([prompt + completion], device=self.model.device)
        kept: list[Tensor] = []
        hook = self.model.base_model.register_forward_hook(lambda *call: kept.append(call[-1].last_hidden_state))
        try:
            logits = self.model(input_ids=ids, use_cache=False).logits
        finally:
            hook.remove()
        # Some models run what is inside of their backbone, and not the backbone.
        states = kept[-1] if kept else self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        self.states.append(states[0, len(prompt) - 1 : -1])
        return logits[0, len(prompt) - 1 : -1].float()

    def _windowed(self) -> "_Windowed":
        return _Windowed(self.model.config, self.short_window)


class _Windowed:
    """Within the context the config's sliding window is this short, so that short rows reach beyond it."""

    def __init__(self, config: PreTrainedConfig, short: int | None) -> None:
        self._config, self._short = config.get_text_config(), short
        self._own = getattr(self._config, "sliding_window", None)

    def __enter__(self) -> None:
        if self._short is not None:
            self._config.sliding_window = self._short

    def __exit__(self, *_: object) -> None:
        if self._short is not None:
            self._config.sliding_window = self._own


def _prompts(config: PreTrainedConfig) -> list[int]:
    """Lengths of prompts: short ones, and around each window that the config names and layers were built with."""
    named = {
        value
        for key, value in config.to_dict().items()
        if "window" in key and key != "sliding_window" and _is_id(value) and 0 < value <= _LONGEST_WINDOW
    }
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or _LONGEST_WINDOW + 2 * _NEW
    around = [length for size in named for length in (size - 2, size + 2) if 0 < length <= positions - _NEW]
    return [*(min(length, max(1, positions - _NEW)) for length in _PROMPTS), *around]


@torch.no_grad()
def probe_reward(reward: PreTrainedModel, name: str, attention: Attention = "auto") -> None:
    """Hold a given reward model's scores, of rows that run together, against its own forward pass, and pad its rows
    where packing changes them. `attention` as in `probe`.

    Raises:
        ConfigError: it does not score by a linear head named `score` on a causal backbone's last state.
    """
    with _attending(reward, attention, name), _quietly(reward):
        if _trouble(lambda: _scores_apart(reward)) is None:
            return
        replace(Paths.of(reward), packed=False).write(reward)
        unlearn(reward.base_model)
        if (why := _trouble(lambda: _scores_apart(reward))) is not None:
            raise ConfigError(
                f"{name} cannot be used: a reward model scores by a head `score` at the last token of a causal model"
                f" ({why})"
            )


def _scores_apart(reward: PreTrainedModel) -> float:
    """How far the scores of rows that run together, and of pairs, are from those of the model's own forward pass.

    As a share of the largest score, where that is above 1.
    """
    rows = [[5, 6, 7, 8], [5, 6, 11]]
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 11, 0]], device=reward.device)
    own = torch.cat([reward(input_ids=ids[i : i + 1, : len(row)]).logits.flatten() for i, row in enumerate(rows)])
    lengths = torch.tensor([len(row) for row in rows], device=reward.device)
    found = [last_token_scores(reward, ids, lengths, pairs=pairs) for pairs in (False, True)]
    apart = max(float((scores - own.float()).abs().max()) for scores in found)
    return apart / max(1.0, float(own.abs().max())) if apart == apart else float("inf")


def _no_reward(model: PreTrainedModel) -> str | None:
    """Why no reward model can be made on this backbone.

    Its class is built without weights and given the backbone and a head: it must score as this project does.
    """
    if type(model.config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return f"transformers has no {model.config.model_type} for sequence classification"
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    try:
        with torch.device("meta"):
            reward = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        setattr(reward, reward.base_model_prefix, model.base_model)
        head = score_head(reward).to_empty(device=model.device)
        for parameter in head.parameters():
            nn.init.normal_(parameter, generator=torch.Generator(model.device).manual_seed(0))
        if (apart := _scores_apart(reward.eval())) > _SAME:
            return f"its class for sequence classification scores otherwise ({apart:.2g} apart)"
        with tempfile.TemporaryDirectory() as folder:
            reward.save_pretrained(folder, state_dict={f"score.{k}": v for k, v in head.state_dict().items()})
    except Exception as error:  # whatever a class of someone else's raises
        return f"its class for sequence classification fails: {_first_line(error)}"
    return None


def _trouble(way: Callable[[], float]) -> str | None:
    """What is wrong with a way to run the model; None where its log-probs are those of the plain forward pass."""
    try:
        apart = way()
    except Exception as error:  # whatever a model of someone else's raises
        return _first_line(error)
    return None if apart <= _SAME else f"{apart:.2g} off"


def _apart(logits: Float[Tensor, "n V"], plain: Float[Tensor, "n V"]) -> float:
    """The largest difference of two log-probs of one token, in nats; inf where there is none to speak of."""
    apart = float((logits.log_softmax(-1) - plain.log_softmax(-1)).abs().max())
    return apart if apart == apart else float("inf")


def _unpacked_because(config: PreTrainedConfig) -> str:
    kinds = sorted(other_layers(config))
    return f"it has {', '.join(kinds)} layers" if kinds else f"it attends by {config._attn_implementation}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:160].rstrip(": ")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
