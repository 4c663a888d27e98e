"""Reading a store far larger than the memory allowed for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import resource, sys
from pathlib import Path
from benchmarks.loader import made_up_sampler

def status(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])

sampler = made_up_sampler(Path(sys.argv[1]), steps=8_000_000, batch_size=256)
sampler.batch(0)
own = status("RssAnon")
room = 48 * 2**20
# What is mapped already may stay; nothing like another copy of the tokens fits beside it.
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + room,) * 2)
rows = sum(len(sampler.batch(step).mask) for step in range(1, 150))
large = len(sampler) > 1_500_000 and sampler._caches[0].tokens.nbytes > 10 * room
print(rows, large, status("RssAnon") - own < room)
try:
    bytearray(2 * room)
except MemoryError:
    print("limited")
"""


def test_drawing_from_a_large_store_takes_no_more_memory_with_time(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [f"{149 * 256} True True", "limited"], done.stderr
