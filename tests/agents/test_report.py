from html.parser import HTMLParser

import numpy as np
import pytest

from agents.metrics import Estimate, summarise
from agents.report import Report, chart_estimates, format_estimate, text_table


class Reader(HTMLParser):
    """Collects what a page is made of and checks that its tags are closed in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open, self.cells, self.sources, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name == "src"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def read(report: Report) -> Reader:
    reader = Reader()
    reader.feed(report.render())
    reader.close()
    assert reader.open == []
    return reader


def test_page_holds_everything_and_fetches_nothing():
    report = Report("A <title>")
    report.heading("Scores & more")
    report.text("1 < 2")
    report.command("python -m agents.evaluate --game Pong")
    report.table(["player", "mean"], [["a<b", "1.0"], ["c", "2.0"]], caption="of 3 episodes", best=1)
    report.image(np.zeros((4, 4, 3), dtype=np.uint8), 'a "quoted" caption')
    report.chart(chart_estimates({"x": summarise(np.arange(8.0)[None], "mean")}, "score"), "a chart")
    report.video("videos/beam.mp4", "play")
    reader = read(report)
    assert reader.cells == ["player", "mean", "a<b", "1.0", "c", "2.0"]
    for words in ("A <title>", "Scores & more", "1 < 2", "of 3 episodes", 'a "quoted" caption'):
        assert words in reader.text
    pictures = [source for source in reader.sources if source.startswith("data:image/png;base64,")]
    assert len(pictures) == 2
    assert [source for source in reader.sources if source not in pictures] == ["videos/beam.mp4"]
    assert "http" not in report.render()


def test_written_page_replaces_the_old_one(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("old")
    report = Report("New")
    report.write(page)
    assert page.read_text() == report.render()
    assert list(tmp_path.iterdir()) == [page]


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match="needs 2 cells"):
        Report("x").table(["a", "b"], [["1"]])


def test_estimates_are_written_with_their_interval():
    assert format_estimate(Estimate(1.234, 0.8, 1.706, 10)) == "1.23 [0.80, 1.71]"
    assert format_estimate(Estimate(-5.0, None, None, 1), digits=0) == "-5 [one episode: no interval]"


def test_chart_names_each_player_and_its_episodes():
    estimates = {"random": Estimate(1.0, 0.5, 1.5, 8), "beam": Estimate(2.0, None, None, 1)}
    axes = chart_estimates(estimates, "score").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["random  (n=8)", "beam  (n=1)"]
    assert len(axes.lines) == 3  # two points, one interval


def test_text_tables_are_aligned():
    assert text_table(["", "mean"], [["score", "1.5"], ["x", "-10.25"]]).splitlines() == [
        "         mean",
        "-----  ------",
        "score     1.5",
        "x      -10.25",
    ]
