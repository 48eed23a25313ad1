"""A study as one HTML file: no script, nothing fetched from elsewhere, the same bytes for the same results."""

from pathlib import Path

from cnn_jax import config, workdir
from cnn_jax.config import experiments
from cnn_jax.progress import duration
from cnn_jax.reports.page import (
    page_template,
    paragraphs,
    record_rows,
    setting_rows,
    without_command,
    write_page,
)
from cnn_jax.reports.study import pictures, plots, prose, sections
from cnn_jax.studies.results import SPENT, Results, latex


def write_report(path: Path, results: Results, folder: Path) -> None:
    """Writes the report, wholly or not at all.

    Args:
      path: the HTML file; one of that name is replaced.
      results: at least one arm.
      folder: the study's workdir, for the record of its starts.

    Raises:
      UserError: the file cannot be written.
    """
    write_page(path, render(results, workdir.starts(folder)))


def render(results: Results, starts: list[dict]) -> str:
    """Returns the report as HTML text.

    Args:
      results: at least one arm.
      starts: the records of the study's starts.
    """
    study, places = results.study, prose.digits(results)
    departures = experiments.departures(study)
    shown = [*sections.sections(results), *pictures.sections(results)]
    return page_template("report.html.jinja", Path(__file__).parent).render(
        title=experiments.title(study.experiment),
        description=without_command(paragraphs(experiments.recipe(study.experiment))),
        headline=prose.headline(results, departures),
        departures=departures,
        facts=_facts(results, places),
        reading=prose.reading(results, places),
        notes=prose.notes(results),
        tables=_tables(results, places),
        sections=[section for section in shown if section and section["blocks"]],
        latex=latex(results),
        protocol=prose.protocol(results),
        settings=setting_rows(config.to_dict(study.base)),
        command=starts[0]["command"] if starts else "",
        records=[record_rows(record) for record in starts],
        shares=", ".join(plots.SHARES),
    )


def _facts(results, places):
    arms, study = results.arms, results.study
    baseline = next((prose.summary(each) for each in arms if each.arm.name == study.baseline), None)
    told = [plots.verdict(each) for each in results.comparisons.values()]
    seeds = len(arms[0].seeds)
    facts = [
        ("Arms", str(len(arms)), f"{seeds} seed{'s' * (seeds > 1)} each"),
        ("Test images", f"{arms[0].correct.shape[1]:,}", f"of {study.base.data.name}"),
    ]
    if told and not prose.rehearses(results):
        words = f"{told.count('better')} better, {told.count('worse')} worse"
        facts.append(("Significant differences", f"{sum(map(bool, told))}", words))
    facts += [
        _time(arms),
    ]
    if baseline and baseline.mean is not None:
        note = f"of the baseline, {study.baseline}" if told else "of the test images"
        facts.insert(0, ("Accuracy", f"{baseline.mean:.{places}f}%", note))
    return facts


def _time(arms):
    total = lambda name: sum(each.record.get(name) or 0.0 for each in arms)
    parts = {name.removeprefix("seconds_"): total(name) for name in SPENT}
    steps = total("seconds")
    if not any(parts.values()):  # of arms finished before November 2026
        return "Training", duration(steps), "all seeds; compiling and measuring not counted"
    words = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
    return "Time", duration(steps + sum(parts.values())), f"steps of all seeds {duration(steps)}, {words}"


def _tables(results, places):
    others = [prose.pairs_table(results, places), prose.interactions_table(results, places)]
    return [
        prose.compared_table(results, places),
        *filter(None, others),
        *prose.measured_tables(results),
        prose.cost_table(results),
    ]
