"""What the meter costs: the same work with and without it, in turns.

    python tests/cost/overhead.py [rounds]

Prints what the meter adds to the CPU time of training steps and of sampling, in per cent, on the built-in tiny model:
the smaller a model, the cheaper its calls, and the more a counted call weighs.
"""

import sys
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.cost import metered
from bench.cost.flops import FlopCounter
from bench.generation import sample

CPU = torch.device("cpu")


def model(hidden: int, layers: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def training(hidden: int, layers: int, batch: int) -> Callable[[], None]:
    network, ids = model(hidden, layers), torch.randint(1024, (batch, 160))

    def work() -> None:
        network(ids, labels=ids, use_cache=False).loss.backward()
        network.zero_grad()

    return work


def sampling(hidden: int, layers: int, batch: int) -> Callable[[], None]:
    network, prompts = model(hidden, layers).eval(), [[1] * 120 for _ in range(batch)]

    def work() -> None:
        sample(
            network,
            prompts,
            max_new_tokens=48,
            eos_token_id=1023,
            pad_token_id=0,
            temperature=1.0,
            generator=torch.Generator().manual_seed(0),
        )

    return work


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU time of all threads: what others run on the machine moves it less than it moves wall time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(work: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """CPU seconds without the meter, and what its counting and all of it add, as shares of that.

    The fastest of the rounds: what else the machine does only ever adds.
    """
    plain, counting, metering = [], [], []
    for _ in range(rounds):
        plain.append(cpu_seconds(work))
        with FlopCounter():
            counting.append(cpu_seconds(work))
        with metered(CPU):  # opened and closed once a stage, so outside the time taken
            work()  # takes back from the system the memory that opening gave to it
            metering.append(cpu_seconds(work))
    base = min(plain)
    return base, min(counting) / base - 1, min(metering) / base - 1


def main(rounds: int) -> None:
    for name, make in (("training", training), ("sampling", sampling)):
        work = make(hidden=128, layers=2, batch=32)
        with metered(CPU) as cost:
            work()  # warm
        base, counting, whole = compared(work, rounds)
        print(f"{name:9} {base:.3f} s, {cost.flops:.3g} FLOPs: counting {counting:+.2%}, the whole meter {whole:+.2%}")
    start = time.perf_counter()
    with metered(CPU):
        pass
    print(f"opening and closing it, once a stage: {time.perf_counter() - start:.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
