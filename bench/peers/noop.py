"""A no-op task and a producer on Celery with Redis, with its defaults.

`celery -A noop worker`: waits for the file GATE, then notes `job pid ns` in STARTS for each
job that begins. `python noop.py`: `put JOB HOLD_MS` and `bulk FIRST COUNT` on standard input,
`ok BEFORE_NS` or `failed REASON` on standard output for each. REDIS_URL, STARTS, GATE and
ACKS_LATE come from the environment.
"""

import os
import sys
import time

from celery import Celery
from celery.signals import worker_init

app = Celery("noop", broker=os.environ["REDIS_URL"])
starts = None


@app.task(name="noop", acks_late=os.environ.get("ACKS_LATE") == "1")
def noop(job, hold_ms):
    global starts
    if starts is None:
        starts = os.open(os.environ["STARTS"], os.O_WRONLY | os.O_APPEND)
    os.write(starts, b"%d %d %d\n" % (job, os.getpid(), time.time_ns()))
    if hold_ms:
        time.sleep(hold_ms / 1000)


@worker_init.connect
def wait_for_the_gate(**_):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.005)


def produce():
    for line in sys.stdin:
        words = line.split()
        first, second = int(words[1]), int(words[2])
        jobs = [(first, second)] if words[0] == "put" else [(n, 0) for n in range(first, first + second)]
        before = time.time_ns()
        answer = f"ok {before}"
        for job in jobs:
            try:
                noop.delay(*job)
            except Exception as error:
                answer = f"failed {error!r}"
                break
        print(answer, flush=True)


if __name__ == "__main__":
    produce()
