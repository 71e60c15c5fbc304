#!/usr/bin/env bash
# A Jupyter cell that awaits is interrupted only when something else wakes the kernel's event loop.
#
# ipykernel turns the interrupt of such a cell into the cancellation of its task, from a signal handler that does not wake
# the loop. With nothing else to do, the loop sleeps until the awaited thing is there: a cell that awaits six seconds and is
# interrupted after one ends after six, as interrupted. A task that wakes ten times a second makes the same interrupt
# immediate. A cell that does not await is interrupted at once.
#
# Reported for older versions (ipython/ipykernel, 881), and said to be fixed since.
#
# Versions: ipykernel 7.4.0, jupyter_client 8.10.0, tornado 6.6.1, on Python 3.11. Seen on 2026-11-28:
#   blocking: KeyboardInterrupt, at once
#   awaiting: CancelledError, late
#   awaiting beside a ticking task: CancelledError, at once
#
# What follows for Atelier: `Client` is what the example notebook uses; with `AsyncClient`, stopping a cell cancels the
# generation at its next event, or at the next repeated one (docs/client.md).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install ipykernel==7.4.0 jupyter_client==8.10.0 tornado==6.6.1 2>/dev/null

env/bin/python - 2>/dev/null <<'PYTHON' | tee seen.txt
import queue
import time

from jupyter_client.manager import KernelManager

TICK = "async def tick():\n  while True: await asyncio.sleep(.1)\nt = asyncio.create_task(tick())\n"
CELLS = {
    "blocking": "import time; time.sleep(6)",
    "awaiting": "import asyncio; await asyncio.sleep(6)",
    "awaiting beside a ticking task": f"import asyncio\n{TICK}await asyncio.sleep(6)",
}
manager = KernelManager(kernel_name="python3")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready()
for name, code in CELLS.items():
    cell, error, interrupted = client.execute(code), "none", None
    start = time.monotonic()
    while True:
        if interrupted is None and time.monotonic() - start > 1:
            interrupted = time.monotonic()
            manager.interrupt_kernel()
        try:
            message = client.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != cell:
            continue
        if message["msg_type"] == "error":
            error = message["content"]["ename"]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    late = time.monotonic() - interrupted > 3
    print(f"{name}: {error}, {'late' if late else 'at once'}")
manager.shutdown_kernel(now=True)
PYTHON
diff seen.txt - <<'SEEN'
blocking: KeyboardInterrupt, at once
awaiting: CancelledError, late
awaiting beside a ticking task: CancelledError, at once
SEEN
