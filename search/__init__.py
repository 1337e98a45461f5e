"""Use a trained network: index folders of pictures, search them, embed them.

    python -m search index FOLDER… --index PATH    embed new and changed pictures, keep the rows
    python -m search forget FOLDER… --index PATH   take folders and their rows out
    python -m search query IMAGE… --index PATH     the most similar pictures as a ranked list
    python -m search embed FOLDER --out X.npy      rows and a CSV for a search of your own

It reads the folder that the stage `export` writes (`models/export`) and runs with the packages of
`requirements-search.txt` alone: no PyTorch, pandas or DVC. docs/search.md shows it at work.

    model → runtime → embedding ─┐
    scan → facts ────────────────┴→ update → archive (files) + indexes → lookup → show, page
                                  forget ─┘
"""

import signal
import sys

if sys.argv[0] == "-m":  # `python -m search` is about to run
    # Ctrl-C ends it without a traceback until `stages` has set its own way.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Before numpy and faiss are imported: it chooses their kernels, see stages/parts/run/numerics.py.
import stages  # noqa: F401
