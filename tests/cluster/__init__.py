import os

os.environ.setdefault("RAY_worker_niceness", "0")  # beside other work, workers of a low priority would wait for minutes
