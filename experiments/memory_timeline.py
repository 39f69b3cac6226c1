"""The memory of one training step of GPT-2 over its operators: rising in forward, falling in
backward.

    python experiments/memory_timeline.py
"""

from pathlib import Path

import flopratio as fr
from flopratio.report.figures import memory_timeline

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    ledger = fr.count("hf:gpt2", 8, seq=1024, optimizer="adamw")
    memory_timeline(
        ledger.memory, RESULTS / "memory_timeline.png", "hf:gpt2 batch=8 seq=1024, adamw"
    )
    memory = ledger.memory
    print(f"peak {memory.peak:,} bytes in {memory.peak_phase}:")
    for category, nbytes in memory.at_peak.by_category.items():
        print(f"  {category:<18}{nbytes:>16,}")


if __name__ == "__main__":
    main()
