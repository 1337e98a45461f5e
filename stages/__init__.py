"""From pictures to a page: what each verb reads and writes. Files are the only interface between them.

synthesize     (nothing)                                              -> data/synthetic
prepare        data.root, a tree in its data set's own layout         -> data/images/target, metrics/prepare.json
prepare.source data.root or data.source_root, a labeled RGB data set -> data/images/source, metrics/source.json
pseudo_label   images of target and source     -> data/labels/visible.csv, models/pseudo_label.safetensors, metrics
train          target, labels, that network    -> models/network.safetensors, data/labels/infrared.csv, metrics
evaluate       target, both networks           -> metrics/evaluate.json, metrics/evaluate/cmc.csv, data/rankings
report         all of the above                -> metrics/report/index.html

`parts` is the shelf: things of the field that know neither files nor one another.
"""
