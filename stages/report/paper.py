"""What the OTLA paper (ECCV 2022) reports of the whole method; numbers alone."""

# Rank-1 and mAP in per cent by data set, mode and setting (Table 1).
RESULTS = {
    "sysu_mm01": {
        "all": {"unsupervised": (29.9, 27.1), "semi-supervised": (48.2, 43.9)},
        "indoor": {"unsupervised": (29.8, 38.8), "semi-supervised": (47.4, 56.8)},
    },
    "regdb": {
        "visible_to_infrared": {"unsupervised": (32.9, 29.7), "semi-supervised": (49.9, 41.8)},
        "infrared_to_visible": {"unsupervised": (32.1, 28.6), "semi-supervised": (49.6, 42.8)},
    },
}
# Seconds of transport in an epoch and its share of it in per cent, on a TITAN RTX (Section 4.5).
TRANSPORT = {"sysu_mm01": (6.832, 2.293), "regdb": (0.353, 0.639)}
