"""The trained network as files for other programs."""

import os

# Before any module here imports onnxruntime, which would report models and machine to Microsoft
# and leave a number of the machine in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
