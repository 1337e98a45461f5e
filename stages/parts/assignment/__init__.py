"""Labels for infrared images: optimal transport, and the bank that holds them.

Start with `transport.py` (the problem and its solution) and `sinkhorn.py` (paper Eq. 4). `dual.py`
and `newton.py` find the same plan in fewer steps; `demand.py` adds slack; `descent.py` is the loop
that both solvers share. `thin.py` only saves time.
"""
