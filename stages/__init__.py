"""Eight stages from images to a page and a model. Files are the only interface between them.

stage         reads                                           writes
synthesize    nothing                                         data/synthetic
prepare       the target's folder tree in data.root           data/images/target
source        a labeled RGB data set (prepare.source)         data/images/source
pseudo_label  images of target and source                     data/labels/visible.csv,
                                                              models/pseudo_label.safetensors
train         the target, visible labels, that network        data/labels/infrared.csv,
                                                              models/network.safetensors
evaluate      the target, both networks                       data/rankings, metrics/evaluate.json
export        the target, both networks, the evaluation       models/export
report        all of the above                                metrics/report/index.html

Every stage also writes its figures to `metrics/`. `parts` holds what the stages are made of: things
of the field that know neither stages nor one another. docs/code.md is the guide for developers.
"""

import os
import sys
import time

from stages.parts.run import console, numerics

STARTED = time.perf_counter()  # of the process, apart from the start of Python itself

# before numpy, torch and faiss are imported, which every other module of this package may do
numerics.choose()
# before onnxruntime is, which would report models and machine to Microsoft, and leave a number of
# the machine in the home folder
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

console.show_anything()
if sys.argv[0] == "-m":  # `python -m stages.…` is about to run; importing torch takes seconds
    console.end_on_signals()
