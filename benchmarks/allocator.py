"""How long does the CUDA caching allocator take to replay a million events?

python benchmarks/allocator.py
"""

from collections.abc import Iterable
from random import Random
from time import perf_counter

from flopratio.allocator import CachingAllocator, Event, replay

EVENTS = 1_000_000


def steps(layers: int = 400) -> list[Event]:
    """Training steps: forward keeps a block of each layer, backward frees them in reverse."""
    random = Random(0)
    kinds = (512, 2048, 40_000, 300_000, 1 << 20, 3 << 20, 7_000_000, 12_500_000, 50_000_000)
    sizes = [random.choice(kinds) + random.randrange(5000) for _ in range(layers)]
    events: list[Event] = []
    while len(events) < EVENTS:
        first = len(events)
        for layer, nbytes in enumerate(sizes):
            kept, passing = first + 2 * layer, first + 2 * layer + 1
            events.append(Event("alloc", kept, nbytes))
            events.append(Event("alloc", passing, nbytes // 2 + 1))
            events.append(Event("free", passing, nbytes // 2 + 1))
        for layer, nbytes in reversed(list(enumerate(sizes))):
            kept, gradient = first + 2 * layer, -1 - layer
            events.append(Event("alloc", gradient, nbytes))
            events.append(Event("free", kept, nbytes))
            events.append(Event("free", gradient, nbytes))
    return events[:EVENTS]


def churn(blocks: int) -> list[Event]:
    """Blocks from 512 B to 64 MiB in no order, so many of them live at a time."""
    random = Random(0)
    events: list[Event] = []
    live: list[Event] = []
    while len(events) < EVENTS:
        if len(live) < blocks or random.random() < 0.5:
            live.append(Event("alloc", len(events), int(2 ** random.uniform(9, 26))))
            events.append(live[-1])
        else:
            index = random.randrange(len(live))
            live[index], live[-1] = live[-1], live[index]
            events.append(live.pop()._replace(kind="free"))
    return events


def seconds(events: Iterable[Event], *, expandable: bool) -> float:
    allocator = CachingAllocator(expandable_segments=expandable)
    start = perf_counter()
    replay(events, allocator)
    return perf_counter() - start


def main() -> None:
    print(f"{EVENTS:,} events                          plain segments   expandable")
    for name, events in (
        ("training steps", steps()),
        ("random, 1,000 live blocks", churn(1_000)),
        ("random, 10,000 live blocks", churn(10_000)),
    ):
        plain, expandable = (seconds(events, expandable=mode) for mode in (False, True))
        print(f"{name:30} {plain:20.2f} s {expandable:10.2f} s   (target 5 s)")


if __name__ == "__main__":
    main()
