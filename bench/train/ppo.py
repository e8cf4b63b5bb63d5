"""PPO on a reward model, as Huang et al. 2024 (N+) describe it for TL;DR.

One update:
  1. sample a completion for each prompt of the batch
  2. score: the reward model at the last token
  3. log-probs under the rollout policy and the reference policy, and values, all before the update
  4. scores are clipped, where wanted, and a completion without EOS is penalised
  5. reward per token: -beta KL(policy || reference policy), plus the score at the last token
  6. advantages and returns by GAE; advantages whitened over the batch
  7. `ppo_epochs` passes over the batch in minibatches, one optimizer step each: clipped policy loss and clipped value
     loss, the two networks' gradients clipped separately
  8. where there is a target, beta follows the measured KL
In the first `critic_warmup_updates` the value model alone learns, and beta stays.
The gradient depends neither on how a minibatch is cut into micro-batches nor on how many processes share the batch (but
for the rounding of sums, and in bf16 of the forward passes).
Each process holds all networks, or its share of each where the launcher was told so (`bench.train.shards`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench import processes
from bench.errors import ConfigError
from bench.forward import completion_hidden, lm_head, scatter_states, token_kl, token_logps_and_entropy
from bench.generation import decode
from bench.micro_batches import micro_batches, take
from bench.progress import StageBar, say_resumed
from bench.provenance import stable_hash
from bench.records import GoldReward, Rollout
from bench.special_tokens import pad_id
from bench.train import ppo_checkpoint
from bench.train.context import RolloutBudget, TrainingContext
from bench.train.health.ppo import PPO
from bench.train.kl_control import KLController
from bench.train.log import Row, TrainingLog, log_row
from bench.train.ppo_experience import Experience, Forwards, describe, learnt_from
from bench.train.ppo_models import (
    PPOModels,
    ScoreScale,
    SharedValueHead,
    autocast,
)
from bench.train.ppo_rollouts import PromptIds, PromptOrder, rollout_sampler
from bench.train.ppo_update import PPOUpdate
from bench.train.ranks import Ranks
from bench.train.settings.ppo import PPOSettings, require_policy_updates

_SCALE_PROMPTS = 256  # `normalize_reward` measures the scores' mean and standard deviation on that many SFT samples
_SAME_LOGPS = 1e-5  # nats: below it the sampler's log-probs stand in for those of the training forward


class PPOTrainer:
    """Runs the updates, with the two random generators that everything random follows from.

    Raises:
        ConfigError: fewer episodes per update than processes, or no update after the critic's warm-up.
    """

    def __init__(
        self,
        models: PPOModels,
        tokenizer: PreTrainedTokenizerBase,
        settings: PPOSettings,
        rollouts: RolloutBudget,
        context: TrainingContext,
    ) -> None:
        self.models, self.tokenizer, self.settings, self.context = models, tokenizer, settings, context
        self.temperature = rollouts.temperature or 1.0  # greedy rollouts, which settings refuse, compare samplers
        self.batch_size = min(settings.batch_size, rollouts.episodes)  # the budget is never overspent
        self.updates = rollouts.episodes // self.batch_size
        require_policy_updates(settings, self.updates)
        self.device = models.policy.device
        self.ranks = Ranks.current(self.device)
        if self.batch_size < self.ranks.count:
            raise ConfigError(
                f"ppo.batch_size must be at least the {self.ranks.count} processes, got {self.batch_size};"
                " raise it and budget.ppo_episodes, or launch fewer processes"
            )
        self.sampler_generator = torch.Generator().manual_seed(context.seed)
        self.order_generator = torch.Generator().manual_seed(context.seed + 1)
        self.order = PromptOrder(self.order_generator)
        self.kl = KLController(settings.beta, settings.kl_target, settings.kl_horizon)
        models.eval()
        if settings.activation_checkpointing:
            models.recompute()
        self.sampler = rollout_sampler(models, tokenizer, settings, rollouts, bf16=context.bf16)
        # None: the first update compares. False where the policy runs before the update anyway, or in bf16.
        runs_anyway = settings.kl == "full" or isinstance(models.value, SharedValueHead)
        compares = not (context.bf16 or runs_anyway) and self.sampler.gives_logps
        self.reuse_sampler_logps: bool | None = None if compares else False
        self.learner = PPOUpdate(
            models, settings, updates=self.updates, temperature=self.temperature, bf16=context.bf16, ranks=self.ranks
        )
        self._run = stable_hash([asdict(settings), asdict(rollouts), context.seed, context.bf16])

    def train(self, prompts: Sequence[PromptIds], gold: GoldReward | None = None) -> TrainingLog:
        """Run all updates and return one row per update. `gold` is only logged; training never sees it.

        A run found in the context's scratch folder is continued, to the same parameters.
        The run ends early at a gradient that is not finite, with the last good parameters and nulls in its last row.

        Raises:
            RunFolderError: the checkpoint is of a run with other settings.
        """
        rows = self._resume()
        if rows:
            say_resumed(self.context.stage, len(rows), "updates")
        if not rows and self.settings.normalize_reward:
            self.models.scale = self._sft_scale(prompts)
        saver = ppo_checkpoint.Saver(self.context.checkpoint_every_s)
        watch = self.context.watch(PPO)
        for row in rows:
            watch.read(row)
        if not rows:
            self.context.sample(0, self.updates, self.models.policy)
        start = time.perf_counter() - (rows[-1]["wall_s"] or 0.0 if rows else 0.0)
        with StageBar(self.context.stage, self.updates, "updates") as bar:
            bar.update(len(rows))
            for update in range(len(rows), self.updates):
                batch = [prompts[i] for i in self.order.take(self.batch_size, len(prompts))]
                experience = self.collect(batch)  # 1 to 6
                row: Row = {"step": update + 1, **describe(experience, self.kl.beta)}
                row |= self.update(experience, critic_alone=update < self.settings.critic_warmup_updates)  # 7 and 8
                if gold is not None:
                    row["gold"] = self._mean_gold(gold, batch, experience.rollout)
                row["wall_s"] = time.perf_counter() - start
                rows.append(log_row(row))
                bar.update(1, score=row["score"], kl=row["kl_ref"])
                self.context.on_rows(rows)
                watch.report(rows[-1])
                if watch.has_stopped:
                    break
                start += self.context.sample(update + 1, self.updates, self.models.policy)
                self._save(saver, rows)
        self.learner.restore()
        return rows

    def collect(self, prompts: Sequence[PromptIds]) -> Experience:
        """Steps 1 to 6."""
        return self.score_rollout(self.roll_out(prompts))

    @torch.no_grad()
    def roll_out(self, prompts: Sequence[PromptIds]) -> Rollout:
        """Step 1. Each process samples its share of the prompts and receives the others'."""
        # A seed for each batch: what it draws does not depend on when the last one's rows ended.
        seed = int(torch.randint(2**63 - 1, (), generator=self.sampler_generator))
        own = self.ranks.own(torch.arange(len(prompts), device=self.device))
        share = self.sampler.sample([prompts[i].token_ids for i in own.tolist()], seed, own, len(prompts))
        pad = pad_id(self.tokenizer)
        return Rollout(
            **{
                name: self.ranks.gather(tensor, own, len(prompts), fill=pad if name.endswith("_ids") else 0)
                for name, tensor in vars(share).items()
            }
        )

    @torch.no_grad()
    def score_rollout(self, rollout: Rollout) -> Experience:
        """Steps 2 to 6."""
        before = Forwards(**self._shared_out(self._forwards, rollout))  # 2 and 3
        if self.reuse_sampler_logps is None:
            self.reuse_sampler_logps = bool((before.logps - rollout.logps).abs().max() < _SAME_LOGPS)
        return learnt_from(rollout, before, self.kl.beta, self.settings)  # 4 to 6

    def update(self, experience: Experience, critic_alone: bool = False) -> dict[str, float]:
        """Steps 7 and 8; with `critic_alone` the policy and beta stay."""
        found = self.learner.run(experience, self.order_generator, critic_alone)  # 7
        if not critic_alone:
            self.kl.update(experience.kl.sum(1).mean().item(), len(experience.scores))  # 8
        return found

    def _forwards(self, rollout: Rollout) -> dict[str, Tensor]:
        """Steps 2 and 3: what `Forwards` holds, of some rows."""
        models, mask = self.models, rollout.completion_mask
        scores, hidden = models.scores(rollout), None  # 2
        if self.reuse_sampler_logps:  # 3
            logps = rollout.logps
        else:
            said = models.forward(rollout, self.temperature)
            logps, hidden = said.logps, said.hidden
        values = models.values(rollout, hidden)
        with models.reference() as ref_policy:
            ref_hidden, ref_head = completion_hidden(ref_policy.base_model, rollout), lm_head(ref_policy)
            ref_logps, _ = token_logps_and_entropy(ref_hidden, ref_head, rollout, self.temperature)
        found = {"scores": scores, "logps": logps, "values": values, "ref_logps": ref_logps}
        if self.settings.kl == "k1":
            return found
        assert hidden is not None
        kl = token_kl(hidden, lm_head(models.policy), ref_hidden, ref_head, mask, self.temperature)
        return {**found, "kl": kl, "ref_hidden": scatter_states(ref_hidden, mask)}

    def _shared_out(self, compute: Callable[[Rollout], dict[str, Tensor]], rollout: Rollout) -> dict[str, Tensor]:
        """`compute` of the whole rollout, in micro-batches of each process's rows; every process gets the result."""
        total, settings = len(rollout.prompt_lengths), self.settings
        if self.context.bf16:
            chunks = self.learner.first_groups(rollout.lengths, self.order_generator)
        else:
            own = self.ranks.own(torch.arange(total, device=self.device))
            chunks = micro_batches(own, rollout.lengths, settings.micro_batch_size, settings.micro_batch_tokens)
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        runs = self.learner.in_step(chunks) or [first]  # a process may have no rows, and still has to say so
        with autocast(self.device, self.learner.autocasts):
            parts = [compute(take(rollout, rows)) for rows in runs]
        order = torch.cat([*chunks, first[:0]])
        found = {name: torch.cat([part[name] for part in parts])[: len(order)] for name in parts[0]}
        return {name: self.ranks.gather(part, order, total) for name, part in found.items()}

    @torch.no_grad()
    def _sft_scale(self, prompts: Sequence[PromptIds]) -> ScoreScale:
        """The scale on which the scores of the policy's samples before training have mean 0 and variance 1."""
        size = min(self.batch_size, len(prompts))
        batches = [prompts[i : i + size] for i in range(0, min(_SCALE_PROMPTS, len(prompts)) - size + 1, size)]
        raw = [
            self._shared_out(lambda rollout: {"raw": self.models.raw_scores(rollout)}, self.roll_out(batch))["raw"]
            for batch in batches
        ]
        return ScoreScale.of(torch.cat(raw))

    def _mean_gold(self, gold: GoldReward, prompts: Sequence[PromptIds], rollout: Rollout) -> float:
        rows = zip(prompts, rollout.completion_ids, rollout.completion_mask, strict=True)
        rewards = gold([(p.id, decode(self.tokenizer, ids[mask].tolist())) for p, ids, mask in rows])
        return sum(rewards) / len(rewards)

    def _save(self, saver: ppo_checkpoint.Saver, rows: TrainingLog) -> None:
        """A checkpoint, if it is time; weights in shares are put together by all processes."""
        is_due = processes.is_main() and saver.is_due()
        if processes.from_main(is_due) if self.models.is_sharded else is_due:
            saver.save(self.context.scratch, self._state(rows))

    def _state(self, rows: TrainingLog) -> ppo_checkpoint.State:
        """All that the rest of the run depends on."""
        tensors, groups = ppo_checkpoint.capture(self.models.trained, self.learner.optimizers)
        tensors["generator.sampler"] = self.sampler_generator.get_state()
        tensors["generator.order"] = self.order_generator.get_state()
        return tensors, {
            "run": self._run,
            "rows": rows,
            "samples": self.context.samples.rows if self.context.samples else [],
            "optimizers": groups,
            "schedulers": {name: s.state_dict() for name, s in self.learner.schedulers.items()},
            "pending_prompts": self.order.pending,
            "beta": self.kl.beta,
            "scale": asdict(self.models.scale),
            "reuse_sampler_logps": self.reuse_sampler_logps,
        }

    def _resume(self) -> TrainingLog:
        """Take up the run found in the scratch folder; its rows so far, none where it is new."""
        found = ppo_checkpoint.load(self.context.scratch, self._run)
        if found is None:
            return []
        tensors, state = found
        ppo_checkpoint.restore((tensors, state["optimizers"]), self.models.trained, self.learner.optimizers)
        for name, scheduler in self.learner.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][name])
        self.sampler_generator.set_state(tensors["generator.sampler"])
        self.order_generator.set_state(tensors["generator.order"])
        self.order.pending = state["pending_prompts"]
        self.kl.beta = state["beta"]
        self.models.scale = ScoreScale(**state["scale"])
        self.reuse_sampler_logps = state["reuse_sampler_logps"]
        if self.context.samples:
            self.context.samples.rows = state["samples"]
        return state["rows"]
