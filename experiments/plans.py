"""What is compared, as data: a plan has rows, a row has a name and changed parameters."""

from dataclasses import dataclass, field

from stages.report.paper import RESULTS

# Values of otla.label_slack that `priors` tries beside the paper's 0, which is a hard constraint.
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
        "otla.solver=released",
        "otla.tolerance=0.1",
        "otla.predict=visited",
        "otla.predict_mode=train",
        "otla.label_lag=1",
        "otla.infrared_from_epoch=0",
        "evaluate.trials=1",
    ),
    # Beyond the paper: what the plan `beyond` shows to help at scale small.
    "best": (
        "spcl.mixture=0.5",
        "spcl.gamma=[0.5,1.7]",
        "train.mixture=0.8",
        "train.gamma=[0.5,1.7]",
        "otla.rows=clusters",
        "otla.label_slack=0.5",
    ),
    # Beyond the paper: the recipe of BMIL and PoSeD, without any label. docs/paper.md has the
    # source of each value, and what no parameter says.
    "frontier": (
        "network.pooling=gem",
        "network.two_stream=true",
        "network.non_local=true",
        "spcl.source=none",
        "train.objective=prototypes",
        "train.learning_rate=0.00035",
        "train.backbone_rate=1.0",
        "train.weight_decay=0.0005",
        "train.warmup_epochs=0",
        "train.decay=0.1",
        "train.grayscale=0.0",
        "train.exchange=1.0",
        "train.flip=0.5",
        "train.erase=0.5",
        "clusters.share=0.5",
        "prototypes.association=global",
        "prototypes.views=2",
        "prototypes.restart_rate=true",
        "prototypes.momentum=0.1",
        "prototypes.temperature=0.05",
        "prototypes.teacher_temperature=0.05",
        "prototypes.weight_own=0.0",
        "prototypes.weight_unified=1.0",
        "prototypes.weight_distillation=1.0",
        "evaluate.flip=true",
    ),
}
BEST = VARIANTS["best"]
# Shares of training identities without an infrared image.
UNPAIRED = (0.0, 0.25, 0.5)
STAGE1, MIXTURE, CLUSTERS, SLACK = BEST[:2], BEST[2:4], BEST[4:5], BEST[5:]
# Their numbers of epochs, steps and images are for scale paper only; scale small keeps its own.
REAL_SIZE = {
    "paper": ("train.epochs=80", "den.step=1"),
    "code": ("train.epochs=81",),
    "frontier": (
        "train.epochs=100",
        "train.steps=200",
        "train.persons=8",
        "train.images=16",
        "train.milestones=[20,40]",
        "clusters.k1=30",
        "clusters.k2=6",
        "clusters.radius=0.6",
        "clusters.min_samples=4",
        "prototypes.own_epochs=50",
    ),
}

# `<dataset>/<setting>` → `<mode>.<score>` → value
Published = dict[str, dict[str, float]]


def _published(dataset: str, setting: str, modes: dict[str, tuple[float, float]]) -> Published:
    """Return Rank-1 and mAP of each mode as shares of 1; `modes` has them in per cent."""
    scores: dict[str, float] = {}
    for mode, (rank1, mean_ap) in modes.items():
        scores[f"{mode}.rank1"] = round(rank1 / 100, 4)
        scores[f"{mode}.map"] = round(mean_ap / 100, 4)
    return {f"{dataset}/{setting}": scores}


def _full_method(dataset: str) -> Published:
    """Return what Table 1 of the paper reports on a data set."""
    modes = RESULTS[dataset]
    settings = next(iter(modes.values()))
    published: Published = {}
    for setting in settings:
        scores = {mode: by_setting[setting] for mode, by_setting in modes.items()}
        published |= _published(dataset, setting, scores)
    return published


FULL_METHOD = _full_method("sysu_mm01")
REGDB = _full_method("regdb")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    slug: its part of the experiments' names. changes: `key=value`, as `dvc exp run -S` takes them.
    real: further changes at scale paper. published: what the paper reports for it. against: slugs
    of the rows that it is compared with, seed by seed; None stands for the plan's first row.
    """

    name: str
    slug: str
    changes: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    published: Published = field(default_factory=dict)
    against: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """Rows to compare. Each row is run once for every value of the parameter `varies`.

    letter: what stands for `varies` in names. values: those of `varies` if the user names none.
    dataset: the data set that the plan is about, if it is about one only.
    """

    title: str
    rows: tuple[Row, ...]
    varies: str = "seed"
    letter: str = "s"
    values: tuple[int, ...] = (0, 1, 2)
    dataset: str | None = None

    def pairs(self) -> list[tuple[Row, Row]]:
        """Return each row with each row that it is compared with."""
        by_slug = {row.slug: row for row in self.rows}
        first = self.rows[0]
        pairs = []
        for row in self.rows:
            default = () if row == first else (first.slug,)
            slugs = default if row.against is None else row.against
            pairs += [(row, by_slug[slug]) for slug in slugs]
        return pairs


def variant(name: str, scale: str) -> tuple[str, ...]:
    """Return the changes of the parameter set `name` at a scale."""
    real = REAL_SIZE.get(name, ()) if scale == "paper" else ()
    return VARIANTS[name] + real


def _parts(den: bool, pal: bool, assignment: str) -> tuple[str, ...]:
    return (
        f"den.enabled={den}".lower(),
        f"pal.enabled={pal}".lower(),
        f"otla.assignment={assignment}",
    )


# Name, slug, parts that are on, and the paper's Rank-1 and mAP (Table 2, all search) without and
# with visible labels. Without OTLA infrared images have no labels: DEN and PAL see them,
# cross-entropy and triplet loss do not.
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
# What the rows are compared with: the same without one part. So "full" shows what DEN adds to
# PAL + OTLA, and what PAL adds to DEN + OTLA.
_WITHOUT_ONE_PART = {
    "alone": (),
    "den": ("alone",),
    "pal": ("alone",),
    "den-otla": ("den",),
    "pal-otla": ("pal",),
    "full": ("pal-otla", "den-otla"),
    "argmax": ("full",),
}
SETTINGS = {"unsupervised": "usl", "semi-supervised": "semi"}


def _ablation_rows() -> tuple[Row, ...]:
    rows = []
    for number, (setting, short) in enumerate(SETTINGS.items()):
        for name, slug, parts, *both in _COMPONENTS:
            scores = both[number]
            published = _published("sysu_mm01", setting, {"all": scores}) if scores else {}
            changes = (f"train.setting={setting}", *parts)
            against = tuple(f"{short}-{other}" for other in _WITHOUT_ONE_PART[slug])
            row = Row(f"{setting}: {name}", f"{short}-{slug}", changes, (), published, against)
            rows.append(row)
    return tuple(rows)


def _source(name: str, value: str, published: Published | None = None) -> Row:
    changes = ("train.setting=unsupervised", f"spcl.source={value}")
    return Row(name, value, changes, (), published or {})


def _setting(
    name: str,
    slug: str,
    setting: str,
    parts: tuple[str, ...],
    against: tuple[str, ...] | None = None,
) -> Row:
    published = {key: value for key, value in FULL_METHOD.items() if key.endswith(f"/{setting}")}
    return Row(name, slug, (f"train.setting={setting}", *parts), (), published, against)


def _prior(
    name: str, slug: str, prior: str, slack: float = 0.0, published: Published | None = None
) -> Row:
    changes = (
        "otla.assignment=transport",
        f"otla.label_prior={prior}",
        f"otla.label_slack={slack}",
    )
    return Row(name, slug, changes, (), published or {})


def _supervised(name: str, slug: str, den: bool, pal: bool, against: tuple[str, ...]) -> Row:
    parts = _parts(den, pal, "none")
    return _setting(f"supervised: {name}", f"supervised-{slug}", "supervised", parts, against)


def _beyond_rows() -> tuple[Row, ...]:
    """Return each ingredient beyond the paper alone, and together, in both settings.

    The last row has all labels true.
    """
    mixtures = STAGE1 + MIXTURE
    prototypes = ("train.objective=prototypes", *mixtures)
    alone = ("prototypes.association=none", "prototypes.weight_unified=0")
    # name, slug, changes, and the row that it is compared with
    ingredients: tuple[tuple[str, str, tuple[str, ...], str | None], ...] = (
        ("the paper's method", "paper", (), None),
        ("+ channel mixture in stage 1", "stage1", STAGE1, "paper"),
        ("+ channel mixture in training", "mixture", MIXTURE, "paper"),
        ("+ both mixtures", "mixtures", mixtures, "stage1"),
        ("+ infrared clusters", "clusters", CLUSTERS, "paper"),
        ("+ slack", "slack", SLACK, "paper"),
        ("best: all of these", "best", BEST, "paper"),
        ("best without clusters", "best-images", mixtures + SLACK, "best"),
        ("best without DEN", "best-no-den", (*BEST, "den.enabled=false"), "best"),
        ("prototypes, transport", "prototypes", prototypes, "mixtures"),
        ("prototypes, distillation alone", "distillation", prototypes + alone, "mixtures"),
        ("frontier: the recipe of BMIL and PoSeD", "frontier", VARIANTS["frontier"], "paper"),
    )
    rows = []
    for setting, short in SETTINGS.items():
        for name, slug, changes, against in ingredients:
            partners = (f"{short}-{against}",) if against else ()
            changed = (f"train.setting={setting}", *changes)
            real = REAL_SIZE["frontier"] if slug == "frontier" else ()
            row = Row(f"{setting}: {name}", f"{short}-{slug}", changed, real, against=partners)
            rows.append(row)
    # True labels in place of assigned ones: of `best`, the mixtures are left.
    changed = ("train.setting=supervised", "otla.assignment=none", *mixtures)
    best = tuple(f"{short}-best" for short in SETTINGS.values())
    rows.append(Row("supervised: + both mixtures", "supervised", changed, against=best))
    return tuple(rows)


def _unpaired_rows() -> tuple[Row, ...]:
    """Return four associations for each share of identities without an infrared image."""
    base = ("train.setting=unsupervised", *STAGE1, *MIXTURE)
    ways: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("uniform transport", "uniform", ()),
        ("transport with slack", "slack", SLACK),
        ("estimated shares", "estimated", ("otla.label_prior=estimated",)),
        (
            "prototypes, joint clusters",
            "global",
            ("train.objective=prototypes", "prototypes.association=global", "clusters.k1=12"),
        ),
    )
    rows = []
    for share in UNPAIRED:
        for name, slug, changes in ways:
            at = f"{100 * share:.0f}"
            changed = (*base, f"synthesize.unpaired={share}", *changes)
            against = () if slug == "uniform" else (f"uniform-{at}",)
            rows.append(Row(f"{at} % unpaired: {name}", f"{slug}-{at}", changed, against=against))
    return tuple(rows)


BOTH = _parts(True, True, "transport")
WITHOUT_INFRARED_LABELS = tuple(
    _setting(setting, short, setting, BOTH) for setting, short in SETTINGS.items()
)
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
            *WITHOUT_INFRARED_LABELS,
            # The infrared labels are true: there is nothing to assign.
            _supervised("baseline", "b", False, False, against=()),
            _supervised("+ DEN", "den", True, False, against=("supervised-b",)),
            _supervised("+ PAL", "pal", False, True, against=("supervised-b",)),
            # Beside semi-supervised, which has the same parts: what infrared labels are worth.
            _supervised("+ DEN + PAL", "both", True, True, against=("supervised-b", "semi")),
        ),
    ),
    "priors": Plan(
        "Label shares that transport holds to",
        (
            _prior("uniform (paper)", "uniform", "uniform", published=FULL_METHOD),
            _prior("visible images' shares", "visible", "visible"),
            _prior("estimated", "estimated", "estimated"),
            *[_prior(f"uniform, slack {s}", f"slack-{s}", "uniform", s) for s in SLACKS],
        ),
    ),
    "trials": Plan(
        "RegDB's ten splits, a training each",
        (Row("full method", "full", published=REGDB),),
        varies="data.trial",
        letter="t",
        values=tuple(range(1, 11)),
        dataset="regdb",
    ),
    "llcm": Plan(
        "LLCM in both settings",
        WITHOUT_INFRARED_LABELS,
        dataset="llcm",
    ),
    "variants": Plan(
        "Ours, the paper's text and the released code",
        (
            Row("params.yaml as it is", "ours"),
            Row("paper's text", "paper", VARIANTS["paper"], REAL_SIZE["paper"], FULL_METHOD),
            Row("released code", "code", VARIANTS["code"], REAL_SIZE["code"], FULL_METHOD),
        ),
    ),
    "beyond": Plan(
        "What goes beyond the paper, each ingredient alone and together", _beyond_rows()
    ),
    "unpaired": Plan(
        "Training identities without an infrared image: which association loses least",
        _unpaired_rows(),
    ),
}
