"""Several networks in one folder, and the script in it that picks among them."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from deployment import emit, open_session
from deployment.families.family import (
    FamilyMember,
    check_family,
    deploy_family,
    load_family,
)
from deployment.families.selector import (
    FamilyError,
    Selector,
    check,
    main,
    measure,
    resident_bytes,
)
from deployment.proofs.verify import VerificationError
from hardware_profiles import Target
from records import BadInputError, CorruptFileError, ExistingRunError
from search_spaces import CNNSpace
from supernet import Subnet
from tests.deployment.doubles import PROFILE, TARGET, CountingRunner, quantity
from tests.deployment.runtime_graph import optimised
from tests.deployment.test_shared_weights import members_of
from tests.supernet.doubles import images_of

SPACE = CNNSpace(image_size=16)


def family_members():
    subnets = sorted(members_of(SPACE, 1), key=lambda s: s.graph.macs)
    accuracies = (0.8, 0.9, 0.95)
    return [
        FamilyMember(name=f"net{i}", subnet=s, accuracy=a, architecture={"place": i})
        for i, (s, a) in enumerate(zip(subnets, accuracies, strict=True))
    ]


@pytest.fixture(scope="module")
def members():
    return family_members()


@pytest.fixture(scope="module")
def written(members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("families") / "family"
    return deploy_family(
        members, folder, target=TARGET, runner=CountingRunner(), images=images_of(SPACE, 4)
    )


def test_the_folder_holds_all_networks_at_little_more_than_the_largest(written, members):
    names = {path.name for path in written.folder.iterdir()}
    assert names == {
        "family.json", "selector.py", "weights.bin", "net0.onnx", "net1.onnx", "net2.onnx",
    }  # fmt: skip
    weights = written.record["weights"]
    assert weights["bytes"] == (written.folder / "weights.bin").stat().st_size
    assert weights["bytes_apart"] == sum(m["weight_bytes"] for m in written.record["members"])
    largest = max(m["weight_bytes"] for m in written.record["members"])
    assert weights["bytes"] < min(1.1 * largest, 0.8 * weights["bytes_apart"])
    assert written.names == ("net0", "net1", "net2")
    assert [m["accuracy"] for m in written.record["members"]] == [0.8, 0.9, 0.95]
    assert all(m["agreement"]["relative_difference"] < 1e-4 for m in written.record["members"])
    for entry, member in zip(written.record["members"], members, strict=True):
        assert entry["macs"] == member.subnet.graph.macs
        assert entry["architecture"] == member.architecture


def test_each_file_computes_what_its_network_computes(written, members):
    images = images_of(SPACE, 1, seed=7)
    for member in members:
        session = open_session(written.folder / f"{member.name}.onnx")
        theirs = session.run(None, {"images": images.numpy()})[0]
        ours = member.subnet(images).detach().numpy()
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max())


def test_switching_is_measured_in_a_process_of_its_own(written):
    switching = written.record["switching"]
    assert set(switching["members"]) == {"net0", "net1", "net2"}
    for entry in switching["members"].values():
        assert entry["open_ms"] > 0
        assert entry["first_run_ms"] > 0
    if sys.platform == "linux":
        assert switching["resident_bytes_all_open"] > switching["resident_bytes_before"] > 0
    assert isinstance(switching["switch_ms_open"], float)


def test_a_family_is_read_back(written):
    assert load_family(written.folder).record == json.loads(json.dumps(dict(written.record)))
    check_family(written.folder)


def altered(written, tmp_path, name, change):
    folder = tmp_path / "altered"
    folder.mkdir()
    for path in written.folder.iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(change(data) if path.name == name else data)
    return folder


def flipped(data):
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def test_an_altered_family_is_refused(written, tmp_path):
    folder = altered(written, tmp_path, "weights.bin", flipped)
    with pytest.raises(CorruptFileError, match=r"weights\.bin was altered"):
        load_family(folder)
    with pytest.raises(VerificationError, match=r"weights\.bin was altered"):
        check_family(folder)


def test_an_altered_record_is_refused(written, tmp_path):
    folder = altered(written, tmp_path, "family.json", lambda d: d.replace(b"0.95", b"0.99"))
    with pytest.raises(CorruptFileError, match=r"family\.json was altered"):
        load_family(folder)
    (folder / "family.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="no family of format"):
        load_family(folder)
    (folder / "family.json").unlink()
    with pytest.raises(CorruptFileError, match="no whole family"):
        load_family(folder)
    with pytest.raises(CorruptFileError, match="no networks to choose from"):
        check_family(folder)


def test_a_missing_file_and_wrong_logits_are_told(written, tmp_path):
    record = json.loads((written.folder / "family.json").read_text())
    record["members"][0]["sample"]["logits"][0][0] += 1.0
    folder = altered(written, tmp_path, "family.json", lambda d: json.dumps(record).encode())
    assert [text.split(" ")[0] for text in check(str(folder))] == ["net0"]
    (folder / "net1.onnx").unlink()
    assert "net1.onnx cannot be read" in check(str(folder))[0]


def test_bad_members_are_refused_and_nothing_is_left(members, tmp_path):
    def attempt(match, changed, target=TARGET):
        with pytest.raises(BadInputError, match=match):
            deploy_family(changed, tmp_path / "new", target=target, runner=CountingRunner())
        assert list(tmp_path.iterdir()) == []

    attempt("two or more networks, got 1", members[:1])
    attempt("distinct", [members[0], members[0]])
    attempt("begin with a letter", [members[0], replace(members[1], name="../x")])
    attempt("known, or of none", [members[0], replace(members[1], accuracy=None)])
    peaks = {"fp32": quantity(40.0), "int8": quantity(80.0)}
    able = replace(PROFILE, peak_gflops=peaks, peak_gflops_per_thread=peaks)
    attempt("run in fp32", members, Target(profile=able, precision="int8"))
    other = CNNSpace(image_size=16, num_classes=7)
    foreign = Subnet(other.graph(other.extremes("smallest")[0])).eval()
    attempt("same classes", [members[0], replace(members[1], subnet=foreign)])


def test_a_folder_that_holds_something_is_left_alone(members, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ExistingRunError):
        deploy_family(members[:2], tmp_path, target=TARGET, runner=CountingRunner(),
                      measure_switching=False)  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


# ---- the selector ----------------------------------------------------------------------------


@pytest.fixture
def selector(written, tmp_path):
    """The networks with latencies of 1, 2 and 4 ms."""
    record = json.loads((written.folder / "family.json").read_text())
    for member, latency in zip(record["members"], (1.0, 2.0, 4.0), strict=True):
        member["latency_ms"] = latency
    folder = altered(written, tmp_path, "family.json", lambda d: json.dumps(record).encode())
    return Selector(str(folder), margin=0.1, patience=3)


def test_the_most_accurate_within_the_budget_is_chosen(selector):
    budgets = (0.5, 1.0, 1.9, 2.0, 3.9, 4.0, 100.0)
    found = [selector.best_within(budget) for budget in budgets]
    assert found == ["net0", "net0", "net0", "net1", "net1", "net2", "net2"]


def test_too_slow_is_left_at_once_and_slower_is_taken_after_some_patience(selector):
    assert selector.choose(3.0) == "net1"
    assert selector.choose(1.5) == "net0"
    assert [selector.choose(3.0) for _ in range(4)] == ["net0", "net0", "net1", "net1"]
    assert selector.switches == 2


def test_a_budget_that_trembles_around_a_latency_does_not_switch(selector):
    selector.choose(1.5)
    chosen = [selector.choose(2.0 + 0.1 * (-1) ** i) for i in range(20)]
    assert set(chosen) == {"net0"}
    assert selector.switches == 0
    patient = [selector.choose(2.3 if i % 3 else 1.5) for i in range(12)]  # never 3 in a row
    assert set(patient) == {"net0"}


def test_a_slow_machine_makes_it_choose_faster_networks(selector):
    assert selector.choose(4.5) == "net2"
    for _ in range(30):
        selector.observe("net2", 8.0)
    assert selector.slowdown == pytest.approx(2.0, rel=0.01)
    assert selector.choose(4.5) == "net1"
    for _ in range(30):
        selector.observe("net1", 1.0)
    assert selector.slowdown == 1.0  # never better than the record


def test_runs_give_the_chosen_networks_logits(selector, written):
    images = images_of(SPACE, 1, seed=5).numpy()
    for budget, name in ((1.2, "net0"), (50.0, "net0")):
        logits = selector.run(images, budget, adapt=False)
        expected = open_session(written.folder / f"{name}.onnx").run(None, {"images": images})[0]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    selector.run(images, 50.0)
    assert selector.slowdown >= 1.0


def test_sessions_are_opened_when_needed_or_all_at_once(selector):
    images = images_of(SPACE, 1).numpy()
    assert selector._sessions == {}
    selector.run(images, 1.2)
    assert set(selector._sessions) == {"net0"}
    single = Selector(selector.folder, keep_open=False, patience=1)
    for budget in (1.2, 50.0):
        single.run(images, budget, adapt=False)
    assert set(single._sessions) == {"net2"}
    whole = Selector(selector.folder, open_all=True)
    assert set(whole._sessions) == {"net0", "net1", "net2"}
    whole.close()
    assert whole._sessions == {}


def test_without_accuracies_a_slower_network_counts_as_better(members, tmp_path):
    blind = [replace(member, accuracy=None) for member in members[:2]]
    family = deploy_family(blind, tmp_path / "blind", target=TARGET, runner=CountingRunner(),
                           measure_switching=False)  # fmt: skip
    assert Selector(str(family.folder)).best_within(1e6) == family.names[-1]
    assert family.record["switching"] is None


def test_bad_questions(selector):
    with pytest.raises(FamilyError, match="a time above 0 ms, got 0"):
        selector.choose(0)
    with pytest.raises(FamilyError, match="no network 'other'; there are net0, net1, net2"):
        selector.session("other")


def run_script(folder, *options):
    return subprocess.run(
        [sys.executable, "selector.py", *options], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_the_script_stands_alone(written):
    """In a process that has none of this framework on its path."""
    told = run_script(written.folder)
    assert told.returncode == 0, told.stderr
    assert [line.split(":")[0] for line in told.stdout.splitlines()] == list(written.names)
    checked = run_script(written.folder, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "all networks compute" in checked.stdout
    source = (written.folder / "selector.py").read_text()
    imports = {line.split()[1].split(".")[0] for line in source.splitlines()
               if line.startswith(("import ", "from "))}  # fmt: skip
    allowed = {"numpy", "onnxruntime"} | set(sys.stdlib_module_names)
    assert imports <= allowed


def test_opening_and_switching_are_timed(written):
    """In this process, whose memory others fill; the record's numbers are a new process's."""
    found = measure(str(written.folder), repeats=1)
    assert list(found["members"]) == list(written.names)
    assert all(entry["run_ms"] > 0 for entry in found["members"].values())
    assert found["resident_bytes_all_open"] == pytest.approx(resident_bytes(), rel=0.2)


def test_the_command_line_answers_with_codes(written, capsys):
    folder = str(written.folder)
    assert main([folder]) == 0
    assert capsys.readouterr().out.startswith("net0: ")
    assert main([folder, "--check"]) == 0
    assert main([folder, "--measure"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert set(json.loads(told[-1])["members"]) == set(written.names)
    assert main([str(written.folder.parent)]) == 2
    assert "no networks to choose from" in capsys.readouterr().err


def test_a_record_of_another_format_is_refused(written, tmp_path):
    folder = altered(
        written, tmp_path, "family.json", lambda d: d.replace(b"family-1", b"family-9")
    )
    with pytest.raises(FamilyError, match="hwnas-family-9"):
        Selector(str(folder))


def test_a_script_that_fails_leaves_no_family(members, tmp_path, monkeypatch):
    monkeypatch.setattr("deployment.families.family.sys.executable", "/bin/false")
    with pytest.raises(VerificationError, match="--measure failed"):
        deploy_family(members[:2], tmp_path / "new", target=TARGET, runner=CountingRunner())
    assert list(tmp_path.iterdir()) == []


def test_the_script_says_what_is_wrong(written, tmp_path):
    folder = altered(written, tmp_path, "weights.bin", flipped)
    checked = run_script(folder, "--check")
    assert checked.returncode == 1
    assert "weights.bin was altered" in checked.stdout
    (folder / "family.json").unlink()
    assert run_script(folder).returncode == 2


def test_a_copied_script_is_imported_by_its_path(written):
    spec = importlib.util.spec_from_file_location("selector", written.folder / "selector.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Selector(str(written.folder)).names == list(written.names)
    assert module.main([str(written.folder)]) == 0
    assert module.main([str(written.folder), "--check"]) == 0


def test_kept_norms_and_shared_weights_run_as_the_same_kernels(written, members, tmp_path):
    """onnxruntime folds norms and cuts weights when it opens the file."""
    for member in members:
        alone = optimised(emit(member.subnet, 1), tmp_path / f"{member.name}.onnx")
        path = tmp_path / f"{member.name}-shared.onnx"
        open_session(written.folder / f"{member.name}.onnx", optimised_path=path)
        shared = onnx.load(path, load_external_data=False).graph
        kernels = [sorted(node.op_type for node in graph.node) for graph in (alone, shared)]
        assert kernels[0] == kernels[1]
        assert "Slice" not in kernels[1]
