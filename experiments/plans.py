"""What is compared, as data: a plan is a title and rows, a row a name and the parameters that it changes."""

from dataclasses import dataclass, field

from stages.report.paper import RESULTS

# The price of leaving the prior that `priors` tries beside the paper's hard marginal, in units of -log P.
SLACKS = (0.5, 2.0)

# The paper's text and its released code: the values in which they differ from each other.
VARIANTS = {
    "paper": (
        "train.weight_ce_infrared=1.0",
        "train.weight_triplet_infrared=1.0",
        "train.triplet_scope=joint",
        "pal.values=predictions",
        "den.levels=last",
        "otla.solver=sinkhorn",
        "otla.stop=marginal",
        "otla.predict=all",
        "otla.predict_mode=eval",
        "otla.label_lag=0",
        "otla.infrared_from_epoch=0",
    ),
    "code": (
        "train.weight_ce_infrared=0.1",
        "train.weight_triplet_infrared=0.5",
        "train.triplet_scope=modality",
        "pal.values=logits",
        "pal.detach=false",
        "den.levels=all",
        "otla.solver=sinkhorn",
        "otla.stop=change",
        "otla.tolerance=0.1",
        "otla.predict=visited",
        "otla.predict_mode=train",
        "otla.label_lag=1",
        "otla.infrared_from_epoch=0",
        "evaluate.trials=1",
    ),
}
# Their lengths mean something at the size of the real data sets only; a rendered one keeps its profile's.
REAL_SIZE = {"paper": ("train.epochs=80", "den.step=1"), "code": ("train.epochs=81",)}

Published = dict[str, dict[str, float]]  # `<dataset>/<setting>` → name of a metric → value


def _published(dataset: str, setting: str, modes: dict[str, tuple[float, float]]) -> Published:
    """Rank-1 and mAP by mode in per cent, as the paper prints them, under our metrics' names as shares of 1."""
    figures: dict[str, float] = {}
    for mode, (rank1, mean_ap) in modes.items():
        figures |= {f"{mode}.rank1": round(rank1 / 100, 4), f"{mode}.map": round(mean_ap / 100, 4)}
    return {f"{dataset}/{setting}": figures}


def _full_method(dataset: str) -> Published:
    """Table 1 of a data set."""
    modes = RESULTS[dataset]
    return {
        key: figures
        for setting in next(iter(modes.values()))
        for key, figures in _published(
            dataset, setting, {mode: modes[mode][setting] for mode in modes}
        ).items()
    }


FULL_METHOD, REGDB = _full_method("sysu_mm01"), _full_method("regdb")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    slug: its part of the experiments' names. changes: `key=value`, as `dvc exp run -S` takes them. real: changes on the
    real data sets alone. published: what the paper reports for it.
    """

    name: str
    slug: str
    changes: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    published: Published = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Rows to compare, each run once for every value of the parameter `varies`.

    letter: what stands for `varies` in names. values: those of `varies` where the user names none. layout: the data
    layout that the plan is about; where the data set of params.yaml has another one, the data set is `stand_in`.
    """

    title: str
    rows: tuple[Row, ...]
    varies: str = "seed"
    letter: str = "s"
    values: tuple[int, ...] = (0, 1, 2)
    layout: str | None = None
    stand_in: str | None = None


def is_rendered(dataset: str) -> bool:
    """Whether the pictures of a data set are rendered ones, to which no published number compares."""
    return dataset.startswith("synthetic")


def variant(name: str, dataset: str) -> tuple[str, ...]:
    """The changes of the parameter set `name` on `dataset`."""
    return VARIANTS[name] + (() if is_rendered(dataset) else REAL_SIZE[name])


def _parts(den: bool, pal: bool, assignment: str) -> tuple[str, ...]:
    return (
        f"den.enabled={den}".lower(),
        f"pal.enabled={pal}".lower(),
        f"otla.assignment={assignment}",
    )


# Name, slug, what is on, and the paper's Rank-1 and mAP (Table 2; all search) without and with visible labels.
# Without OTLA infrared images have no labels: DEN and PAL see them, cross-entropy and triplet do not.
_Scores = tuple[float, float] | None
_COMPONENTS: tuple[tuple[str, str, tuple[str, ...], _Scores, _Scores], ...] = (
    ("V-ReID alone", "alone", _parts(False, False, "none"), (12.62, 12.73), (12.25, 14.66)),
    ("+ DEN", "den", _parts(True, False, "none"), (16.62, 15.94), (23.69, 24.71)),
    ("+ PAL", "pal", _parts(False, True, "none"), (12.65, 12.81), (13.86, 14.72)),
    ("+ DEN + OTLA", "den-otla", _parts(True, False, "transport"), (20.90, 19.83), (33.89, 32.44)),
    ("+ PAL + OTLA", "pal-otla", _parts(False, True, "transport"), (19.64, 19.74), (36.31, 34.66)),
    ("+ DEN + PAL + OTLA", "full", _parts(True, True, "transport"), (29.98, 27.13), (48.15, 43.86)),
    ("the last, labels by argmax", "argmax", _parts(True, True, "argmax"), None, None),
)
SETTINGS = {"unsupervised": "usl", "semi-supervised": "semi"}


def _ablation_rows() -> tuple[Row, ...]:
    rows = []
    for number, (setting, short) in enumerate(SETTINGS.items()):
        for name, slug, changes, *both in _COMPONENTS:
            scores = both[number]
            reported = _published("sysu_mm01", setting, {"all": scores}) if scores else {}
            changed = (f"train.setting={setting}", *changes)
            rows.append(Row(f"{setting}: {name}", f"{short}-{slug}", changed, published=reported))
    return tuple(rows)


def _source(name: str, value: str, published: Published | None = None) -> Row:
    return Row(
        name,
        value,
        ("train.setting=unsupervised", f"spcl.source={value}"),
        published=published or {},
    )


def _setting(name: str, slug: str, setting: str, parts: tuple[str, ...]) -> Row:
    reported = {key: value for key, value in FULL_METHOD.items() if key.endswith(f"/{setting}")}
    return Row(name, slug, (f"train.setting={setting}", *parts), published=reported)


def _prior(
    name: str, slug: str, prior: str, slack: float = 0.0, published: Published | None = None
) -> Row:
    changes = (
        "otla.assignment=transport",
        f"otla.label_prior={prior}",
        f"otla.label_slack={slack}",
    )
    return Row(name, slug, changes, published=published or {})


PLANS = {
    "sources": Plan(
        "Labeled source of the visible pseudo labels (paper Fig. 3, right)",
        (
            _source("Market-1501", "market1501", FULL_METHOD),
            _source("DukeMTMC-reID", "dukemtmc"),
            _source("MSMT17", "msmt17"),
            _source("none (USL)", "none"),
        ),
    ),
    "ablation": Plan(
        "Parts of the method (paper Table 2; labels by argmax: Fig. 4)", _ablation_rows()
    ),
    "settings": Plan(
        "How much is labeled, and the parts with all labels (paper Fig. 3, left)",
        (
            _setting("unsupervised", "usl", "unsupervised", _parts(True, True, "transport")),
            _setting("semi-supervised", "semi", "semi-supervised", _parts(True, True, "transport")),
            # True infrared labels: nothing to assign.
            _setting(
                "supervised: baseline", "supervised-b", "supervised", _parts(False, False, "none")
            ),
            _setting(
                "supervised: + DEN", "supervised-den", "supervised", _parts(True, False, "none")
            ),
            _setting(
                "supervised: + PAL", "supervised-pal", "supervised", _parts(False, True, "none")
            ),
            _setting(
                "supervised: + DEN + PAL",
                "supervised-both",
                "supervised",
                _parts(True, True, "none"),
            ),
        ),
    ),
    "priors": Plan(
        "Label shares that transport holds to",
        (
            _prior("uniform (paper)", "uniform", "uniform", published=FULL_METHOD),
            _prior("visible images' shares", "visible", "visible"),
            _prior("estimated", "estimated", "estimated"),
            *(
                _prior(f"uniform, slack {slack}", f"slack-{slack}", "uniform", slack)
                for slack in SLACKS
            ),
        ),
    ),
    "trials": Plan(
        "RegDB's ten splits, a training each",
        (Row("full method", "full", published=REGDB),),
        varies="data.trial",
        letter="t",
        values=tuple(range(1, 11)),
        layout="regdb",
        stand_in="synthetic_regdb",
    ),
    "variants": Plan(
        "Ours, the paper's text and the released code",
        (
            Row("params.yaml as it is", "ours"),
            Row("paper's text", "paper", VARIANTS["paper"], REAL_SIZE["paper"], FULL_METHOD),
            Row("released code", "code", VARIANTS["code"], REAL_SIZE["code"], FULL_METHOD),
        ),
    ),
}
