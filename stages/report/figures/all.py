"""All drawings of a run, by the name that their PNG file has."""

from stages.report.figures import attention, chart, comparisons, curves, embedding
from stages.report.figures.drawing import Drawing
from stages.report.inputs import Run


def all_drawings(run: Run) -> dict[str, list[Drawing]]:
    """Return the drawings of each name; the list is empty if there is nothing to show."""
    charts = {
        "cmc": curves.cmc(run),
        "visible_labels": curves.visible_labels(run),
        "infrared_labels": curves.infrared_labels(run),
        "infrared_clusters": curves.infrared_clusters(run),
        "label_counts": curves.label_counts(run),
        "losses": curves.losses(run),
    }
    for plan, comparison in run.comparisons.items():
        charts[f"comparison_{plan}"] = comparisons.charts(comparison)
    drawings = {name: [chart.draw(each) for each in listed] for name, listed in charts.items()}
    drawings["attention"] = [attention.draw(each) for each in attention.attention(run)]
    points = embedding.points(run)
    drawings["embeddings"] = [] if points is None else [embedding.draw(points)]
    return drawings
