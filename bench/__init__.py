"""RLHF (reward model + PPO) against DPO on summarization: one SFT model, two arms, one evaluator."""

__version__ = "0.1.0"
