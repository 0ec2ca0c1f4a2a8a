import copy
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.diagrams import non_dominated, save_front_picture
from experiments.report import report_html, write_report
from experiments.report_compromise import compromise_section
from experiments.report_data import keeps_limits, read_front
from experiments.report_evidence import command
from experiments.report_picture_style import STYLE, place_labels
from records import BadInputError

TARGETS = {"local-t1-b1": (0.0158, 0.1135), "local-t1-b16": (0.11, 1.21)}
TITLES = ("fastest", "knee", "most accurate")
VOID = {"meta", "br", "wbr", "img", "hr", "link", "input"}


def a_block(name, kind, text, detail, size, latency_ms):
    return {
        "name": name, "kind": kind, "text": text, "detail": detail, "size": size,
        "latency_ms": latency_ms,
    }  # fmt: skip


def the_blocks(depth, total_ms):
    rows = [("stem", "stem", "conv 3x3", "1 to 8", "8x8x8", 1.0)]
    rows.append(("stage0.begin", "conv", "conv 3x3", "8 to 24", "8x8x24", 2.0))
    for i in range(depth):
        rows.append(
            (f"stage0.layer{i}", "conv", f"MBConv {3 + 2 * (i % 2)}x{3 + 2 * (i % 2)}",
             "24 to 72 to 24", "8x8x24", 3.0)
        )  # fmt: skip
    rows.append(("stage1.begin", "conv", "conv 3x3 /2", "24 to 48", "4x4x48", 2.0))
    if depth:
        rows.append(("stage1.layout", "transition", "map to tokens", "", "16x1x48", 0.3))
    for i in range(depth):
        rows.append(
            (f"stage1.layer{i}", "attention", f"attention, {i + 1} head{'s' * (i > 0)}",
             "16 tokens, MLP 48 to 144", "16x1x48", 4.0)
        )  # fmt: skip
    if depth:
        rows.append(("stage1.layout", "transition", "tokens to map", "", "4x4x48", 0.3))
    rows.append(("head", "head", "mean, linear", "48 to 10", "1x1x10", 0.5))
    scale = total_ms / sum(row[-1] for row in rows)
    return [a_block(*row[:-1], row[-1] * scale) for row in rows]


def a_point(target, index, place, accuracy, kind="searched"):
    low, high = TARGETS[target]
    predicted = low * (high / low) ** place
    error = (-1) ** index * (0.006 + 0.009 * index)
    correct = round(accuracy * 359) / 359
    return {
        "name": f"{target}-{'baseline' if kind == 'baseline' else index}",
        "target": target,
        "kind": kind,
        "title": "ResNet-8 x0.5" if kind == "baseline" else TITLES[index],
        "validation_accuracy": accuracy + 0.004,
        "test_accuracy": correct,
        "test_interval_95": [correct - 0.021, min(0.9995, correct + 0.011)],
        "test_images": 359,
        "predicted": {
            "latency_ms": predicted,
            "latency_interval_90_ms": [predicted * 0.96, predicted * 1.05],
            "energy_mj": 0.4 * predicted,
            "peak_memory_bytes": 21_000 + 160_000 * place,
            "coverage": {"measured": 0.93, "interpolated": 0.05, "analytic": 0.02},
            "latency_source": "predicted: fitted to 100 exported networks timed on this machine",
            "energy_source": "modelled: 45 nm reference energies, without static power (unknown)",
        },
        "measured": {
            "latency_ms": predicted / (1 + error),
            "dispersion_ms": 0.004 * predicted,
            "p90_ms": predicted / (1 + error) * 1.03,
        },
        "latency_error": error,
        "parameters": int(4_800 + 190_000 * place**2),
        "macs": int(120_000 + 6_300_000 * place**2),
        "relative_difference": 4e-7,
        "file": f"models/{target}-{index}/model.onnx",
        "blocks": the_blocks(0 if kind == "baseline" else index + 1, predicted),
        **({"architecture": {"space": "hybrid"}} if kind == "searched" else {}),
    }


def a_front():
    rng = np.random.default_rng(0)
    targets, points, evaluated = [], [], []
    for name, (low, high) in TARGETS.items():
        targets.append(
            {
                "name": name,
                "device": "local",
                "description": "AMD EPYC 7B13, 2 cores",
                "threads": 1,
                "batch_size": int(name.rpartition("b")[2]),
                "runtime": "onnxruntime 1.23",
                "precision": "float32",
                "cost_model": {
                    "networks": 100, "mape": 0.02, "median_error": 0.018,
                    "within_5_percent": 0.97, "spearman": 0.998,
                    "source": "predicted: fitted to 100 exported networks timed on this machine",
                },
                "reachable": [
                    {"metric": "latency_ms", "lowest": low, "highest": high, "exact": True},
                    {"metric": "energy_mj", "lowest": 0.004, "highest": 0.31, "exact": True},
                    {
                        "metric": "peak_memory_bytes", "lowest": 19_000, "highest": 412_000,
                        "exact": False,
                    },
                ],
                "limits": {"latency_ms": 0.09} if name.endswith("b1") else {},
            }
        )  # fmt: skip
        accuracies = (0.951, 0.975, 0.986)
        for index, (place, accuracy) in enumerate(
            zip((0.05, 0.45, 0.86), accuracies, strict=True)
        ):
            points.append(a_point(name, index, place, accuracy))
        points.append(a_point(name, 3, 0.8, 0.969, kind="baseline"))
    for _ in range(150):
        place = rng.uniform(0, 1)
        evaluated.append(
            {
                "accuracy": float(0.992 - 0.045 * (1 - place) ** 2 - rng.gamma(1.2, 0.012)),
                "latency_ms": {t: float(a * (b / a) ** place) for t, (a, b) in TARGETS.items()},
                "feasible": place < 0.88,
            }
        )
    return {
        "format": "hwnas-front-1",
        "created": "2026-11-21T09:00:00Z",
        "seed": 0,
        "config": {
            "dataset": "digits", "space": "hybrid", "out": "runs/my run", "max_latency_ms": 0.09,
            "max_energy_mj": None, "resume": False, "evaluations": 150, "seed": 0,
        },
        "versions": {"python": "3.11.2", "torch": "2.9.0", "onnxruntime": "1.23.0"},
        "seconds": {
            "training": 48.1, "calibration": 21.0, "search": 31.7, "export": 9.4, "total": 111.0,
        },
        "dataset": {
            "name": "digits", "train": 1078, "validation": 360, "test": 359, "classes": 10,
            "image_size": 8, "channels": 1,
        },
        "space": {
            "name": "hybrid", "hash": "9f31c2d4", "cardinality": "2.6e+06", "choices": 27,
            "description": "stages of convolution or attention",
        },
        "supernet": {"epochs": 55, "steps": 935, "parameters": 512_874, "weights_hash": "a1b2c3"},
        "targets": targets,
        "search": {
            "evaluations": 150, "failed": 0, "seconds": 31.7,
            "strategy": "predictor-guided evolution",
            "predictor": {"n": 134, "kendall_tau": 0.61, "mape": 0.02, "macs_kendall_tau": 0.33},
            "history": {
                name: [float(0.9 - 0.35 * np.exp(-i / (18 + 9 * k))) for i in range(150)]
                for k, name in enumerate(TARGETS)
            },
            "evaluated": evaluated,
        },
        "compromise": {
            "rule": "worst",
            "weights": dict.fromkeys(TARGETS, 1.0),
            "regret": dict(zip(TARGETS, (0.081, 0.062), strict=True)),
            "hypervolume": dict(zip(TARGETS, (0.913, 0.874), strict=True)),
            "networks": [
                {
                    "architecture": {"space": "hybrid"},
                    "validation_accuracy": 0.9634,
                    "latency_ms": dict(zip(TARGETS, (0.0312, 0.288), strict=True)),
                    "behind": dict(zip(TARGETS, (0.0, 0.0127), strict=True)),
                    "exported": ["local-t1-b1-1"],
                }
            ],
        },
        "points": points,
        "refit": {
            "threshold": 0.05, "median_error": 0.015, "refitted": False, "fresh_networks": 0,
            "fresh_median_error_before": None, "fresh_median_error_after": None,
        },
    }  # fmt: skip


class Page(HTMLParser):
    """Reads a page strictly: its tags in balance, its text, attributes and scripts."""

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.attributes, self.ids = [], [], [], []
        self.tags = set()
        self.feed(page)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def front():
    return a_front()


@pytest.fixture(scope="module")
def html(front):
    return report_html(front)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_loads_nothing(html, page):
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    for tag, name, value in page.attributes:
        if name.startswith("xmlns"):
            continue
        assert "://" not in (value or ""), (tag, name, value)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "://" not in outside
    assert "@import" not in html
    assert all(reference.startswith("#") for reference in re.findall(r"url\(([^)]*)\)", html))


def test_identifiers_are_unique_and_references_lead_to_one(html, page):
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', html))
    assert used
    assert used <= set(page.ids)


def test_every_point_is_shown_with_its_interval_latencies_and_file(front, page):
    for point in front["points"]:
        low, high = point["test_interval_95"]
        assert point["name"] in page.text
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in page.text
        assert f"{100 * point['test_accuracy']:.1f} %" in page.text
        decimals = 4 if point["target"] == "local-t1-b1" else 3
        assert f"{point['measured']['latency_ms']:.{decimals}f}" in page.text
        assert f"{point['predicted']['latency_ms']:.{decimals}f}" in page.text
        assert ("a", "href", point["file"]) in page.attributes
        assert f"{point['parameters']:,}" in page.text


def test_the_networks_are_drawn_with_all_their_blocks(front, html):
    pictures = re.findall(r'<svg[^>]*class="blocks".*?</svg>', html, re.DOTALL)
    assert len(pictures) == len(front["points"])
    drawn = {re.search(r'aria-label="The blocks of ([^"]*)"', p)[1]: p for p in pictures}
    for point in front["points"]:
        picture = drawn[point["name"]]
        assert picture.count("<g>") == len(point["blocks"])
        total = sum(block["latency_ms"] for block in point["blocks"])
        for block in point["blocks"]:
            assert block["name"] in picture
            assert block["text"] in picture
            assert block["detail"] in picture
            assert block["size"] in picture
            share = 100 * block["latency_ms"] / total
            assert f">{share:.0f}\N{NO-BREAK SPACE}%</text>" in picture
        boxes = re.findall(r'x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', picture)
        right = max(float(x) + float(width) for x, width in boxes)
        assert right <= 1064


def test_the_findings_follow_from_the_numbers(front, page):
    assert "98.6 % [96.5, 99.7] on the test split at 0.0841 ms" in page.text
    assert "The limit of 0.09 ms latency is kept by 3 of 3 files, measured." in page.text
    assert "the intervals overlap, so this may be chance" in page.text
    assert "6 of 6 chosen networks were measured within 5" in page.text
    changed = copy.deepcopy(front)
    for point in changed["points"]:
        if point["kind"] == "baseline":
            point["test_accuracy"], point["test_interval_95"] = 0.90, [0.87, 0.92]
        if point["name"] == "local-t1-b1-2":
            point["measured"]["latency_ms"], point["latency_error"] = 0.101, -0.15
    other = Page(report_html(changed)).text
    assert "beyond the intervals" in other
    assert "is kept by 2 of 3 files, measured." in other
    assert "5 of 6 chosen networks were measured within 5" in other


def test_the_headline_network_is_chosen_by_validation_and_not_by_test(front):
    changed = copy.deepcopy(front)
    for point in changed["points"]:
        if point["title"] == "knee":
            point["test_accuracy"], point["test_interval_95"] = 0.999, [0.99, 1.0]
    cards = re.findall(r'<div class="value">([^<]*)</div>', report_html(changed))
    assert cards[0] == "98.6\N{NO-BREAK SPACE}%"


def test_a_refit_is_told(front):
    changed = copy.deepcopy(front)
    changed["refit"] = {
        "threshold": 0.05, "median_error": 0.083, "refitted": True, "fresh_networks": 12,
        "fresh_median_error_before": 0.079, "fresh_median_error_after": 0.021,
    }  # fmt: skip
    found = Page(report_html(changed)).text
    assert "On 12 fresh networks that neither fit had seen, the median error went" in found
    assert "from 7.9 % to 2.1 %." in found
    assert "predictions were off by 8.3 % (median)" in found
    assert "when they were timed for the second time" in found
    changed["refit"]["fresh_median_error_before"] = 0.03
    assert "the first fit was within the threshold there." in Page(report_html(changed)).text


def test_text_from_outside_is_escaped(front):
    changed = copy.deepcopy(front)
    evil = '<script>alert("1")</script> & $x_$'
    changed["dataset"]["name"] = changed["space"]["description"] = evil
    changed["versions"] = {evil: evil}
    changed["targets"][0]["name"] = changed["targets"][0]["device"] = evil
    changed["targets"][0]["description"] = changed["targets"][0]["cost_model"]["source"] = evil
    changed["search"]["strategy"] = evil
    changed["search"]["history"][evil] = [0.1, 0.2]
    for point in changed["points"][:4]:
        point["target"] = evil
        point["title"] = point["file"] = point["blocks"][0]["text"] = evil
        point["predicted"]["energy_source"] = evil
    html = report_html(changed)
    page = Page(html)
    assert "script" not in page.tags
    assert evil in page.text
    assert ("a", "href", "%3Cscript%3Ealert%28%221%22%29%3C/script%3E%20%26%20%24x_%24") in (
        page.attributes
    )


def without(content, path):
    """A copy without what stands at the path, in every element of a list on the way."""
    if isinstance(content, list):
        return [without(item, path) for item in content]
    first, *rest = path
    if not isinstance(content, dict) or first not in content:
        return content
    if not rest:
        return {key: value for key, value in content.items() if key != first}
    return {**content, first: without(content[first], rest)}


@pytest.mark.parametrize(
    "path",
    [
        "created", "config", "versions", "seconds", "dataset", "space", "supernet", "targets",
        "search", "points", "refit", "targets.limits", "targets.reachable", "targets.cost_model",
        "search.history", "search.evaluated", "search.predictor", "points.title",
        "points.test_interval_95", "points.validation_accuracy", "points.test_accuracy",
        "points.predicted", "points.measured", "points.latency_error", "points.blocks",
        "points.file", "points.name", "points.predicted.energy_mj",
        "points.predicted.latency_interval_90_ms", "points.blocks.latency_ms",
    ],
)  # fmt: skip
def test_a_part_that_is_missing_is_a_dash_and_no_failure(front, path, monkeypatch):
    def quick(figure, file, **_):
        figure.draw_without_rendering()
        file.write('<svg width="9"></svg>')

    monkeypatch.setattr(Figure, "savefig", quick)  # writing the letters' outlines takes long
    small = {**front, "targets": front["targets"][:1], "points": front["points"][2:4]}
    html = report_html(without(small, path.split(".")))
    text = Page(html).text
    assert "None" not in text
    assert "nan" not in text.split()


def test_an_empty_front_is_still_a_page():
    assert "–" in Page(report_html({})).text


def test_numbers_that_are_none_are_dashes(front):
    changed = copy.deepcopy(front)
    for point in changed["points"]:
        point["predicted"] = dict.fromkeys(point["predicted"])
        point["measured"] = None
        point["latency_error"] = None
    changed["search"]["predictor"] = dict.fromkeys(changed["search"]["predictor"])
    assert "None" not in Page(report_html(changed)).text


def test_another_format_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="hwnas-front-7"):
        write_report({"format": "hwnas-front-7"}, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_same_front_gives_the_same_bytes(front, html, tmp_path):
    write_report(copy.deepcopy(front), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == html.encode()
    for name in ("a.png", "b.png"):
        save_front_picture(front, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_picture_shows_a_panel_for_each_target(front, tmp_path):
    sizes = {}
    for targets in (1, 2):
        part = {**front, "targets": front["targets"][:targets]}
        part["points"] = [p for p in front["points"] if p["target"] in list(TARGETS)[:targets]]
        save_front_picture(part, tmp_path / "front.png")
        data = (tmp_path / "front.png").read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        sizes[targets] = struct.unpack(">II", data[16:24])
    assert sizes[2][0] == 2 * sizes[1][0]
    assert sizes[2][1] == sizes[1][1]


def test_labels_keep_clear_of_points_and_of_each_other():
    with rc_context(STYLE):
        figure = Figure(figsize=(5, 4))
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        spots = [(0.5, 0.5), (0.53, 0.52), (0.5, 0.56), (0.95, 0.5), (0.97, 0.06)]
        labels = [(x, y, "most accurate", "#000000") for x, y in spots]
        place_labels(axes, labels, [(0.5, 0.4, 0.6)])
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == len(spots)
        for i, box in enumerate(boxes):
            assert axes.get_window_extent().containsx(box.x0)
            assert axes.get_window_extent().containsx(box.x1)
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert not any(box.contains(*axes.transData.transform(spot)) for spot in spots)


def test_the_command_repeats_the_run(front):
    assert command(front) == (
        "hwnas quickstart --dataset digits --space hybrid --out 'runs/my run' "
        "--max-latency-ms 0.09 --evaluations 150 --seed 0"
    )
    assert command({"seed": 3, "config": {"resume": True}}) == "hwnas quickstart --seed 3"
    assert command({}) == "hwnas quickstart"


def test_networks_for_all_targets_have_a_part_of_their_own():
    front = a_front()
    section = compromise_section(read_front(front))
    assert section in report_html(front)
    page = " ".join(re.sub(r"<[^>]*>", " ", section).split())
    assert "96.3 % 0.0312 0.0 % behind 0.288 1.3 % behind local-t1-b1-1" in page
    assert "8.1 % on local-t1-b1 and 6.2 % on local-t1-b16" in page
    assert "91.3 % on local-t1-b1 and 87.4 % on local-t1-b16" in page
    front["compromise"] = {"networks": [{}, 3]}
    assert compromise_section(read_front(front)).count("<tr>") == 2
    front["compromise"] = None
    assert compromise_section(read_front(front)) == ""


def test_a_network_is_crossed_out_where_its_own_target_forbids_it():
    network = {"allowed": ["a"], "feasible": True}
    assert keeps_limits(network, "a")
    assert not keeps_limits(network, "b")
    assert not keeps_limits({"feasible": False}, "a")
    assert keeps_limits({}, "a")


def untimed(front, target, source="predicted: fitted to 20 networks"):
    """The front with files of one target that were not timed."""
    changed = copy.deepcopy(front)
    for point in changed["points"]:
        if point["target"] == target:
            point["measured"] = {"latency_ms": None}
            point["latency_error"] = None
            point["predicted"]["latency_source"] = source
            point["predicted"]["latency_interval_90_ms"] = None
    return changed


@pytest.mark.parametrize(
    ("source", "word"),
    [("predicted: fitted to 20 networks", "predicted"), ("modelled: roofline", "modelled")],
)
def test_what_was_not_timed_is_called_by_how_it_is_known(front, source, word):
    changed = untimed(front, "local-t1-b1", source)
    text = Page(report_html(changed)).text
    assert "6 became files, timed on local-t1-b16 alone" in text
    assert f"[96.5, 99.7] on the test split at 0.0861 ms {word}." in text
    assert f"The limit of 0.09 ms latency is kept by 3 of 3 files, {word}." in text
    assert "– measured" not in text
    assert "No runner reaches the target, so the files were not timed." in text
    assert f"validation accuracy and {word} latency" in text
    nothing = untimed(changed, "local-t1-b16")
    assert "6 became files, none of them timed on its target" in Page(report_html(nothing)).text


def test_many_targets_are_listed_as_a_sentence_has_them(front):
    changed = copy.deepcopy(front)
    changed["targets"].append({"name": "third"})
    html = report_html(changed)
    title = re.search(r"<h1>(.*?)</h1>", html).group(1).replace("&#8209;", "-")
    assert title.endswith("on local-t1-b1, local-t1-b16 and third")


def test_weights_are_shown_where_they_differ():
    front = a_front()
    assert "weights" not in compromise_section(read_front(front))
    front["compromise"]["weights"] = {"local-t1-b1": 2.0, "local-t1-b16": 1.0}
    assert "weights: local-t1-b1 2, local-t1-b16 1" in compromise_section(read_front(front))


def test_the_line_joins_only_networks_that_no_other_beats(front):
    target = "local-t1-b1"
    changed = copy.deepcopy(front)
    point = next(p for p in changed["points"] if p["target"] == target)
    slower = copy.deepcopy(point)  # slower and less accurate than the fastest
    slower["name"], slower["title"] = f"{target}-9", "next best"
    slower["predicted"]["latency_ms"] *= 1.5
    slower["validation_accuracy"] -= 0.01
    changed["points"].append(slower)
    points = read_front(changed).searched(target)
    line = non_dominated(points)
    values = [(p.predicted_ms, p.validation) for p in points]
    brute = [
        v for v in values if not any(o != v and o[0] <= v[0] and o[1] >= v[1] for o in values)
    ]
    assert [(p.predicted_ms, p.validation) for p in line] == sorted(brute)
    assert len(line) < len(points)
    assert "<i>next best</i> ones join" in report_html(changed)
    assert "next best" not in report_html(front)


def test_a_predictor_judged_on_few_networks_is_called_so(front):
    assert "too few to tell" not in report_html(front)
    changed = copy.deepcopy(front)
    changed["search"]["predictor"]["n"] = 12
    assert "12 networks, too few to tell" in report_html(changed)
