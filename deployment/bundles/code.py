"""How to run a bundle's file: the code of its card, in Python and in C++."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def python_code(record: Record) -> str:
    """A program that classifies an image; numpy and onnxruntime are all it needs."""
    session, entry = record["session"], record["input"]
    lines = [
        "import numpy as np",
        "import onnxruntime as ort",
        "",
        "options = ort.SessionOptions()",
        f"options.intra_op_num_threads = {session['threads']}",
    ]
    if session["optimisation"] != "all":
        level = _LEVELS[session["optimisation"]]
        lines.append(f"options.graph_optimization_level = ort.GraphOptimizationLevel.{level}")
    for name in ("arena", "memory_pattern"):
        if not session[name]:
            option = {"arena": "enable_cpu_mem_arena", "memory_pattern": "enable_mem_pattern"}
            lines.append(f"options.{option[name]} = False")
    lines += [
        f"options.add_session_config_entry({key!r}, {value!r})"
        for key, value in session["config_entries"].items()
    ]
    providers = [(name, dict(options)) for name, options in session["providers"]]
    named = [name if not options else (name, options) for name, options in providers]
    lines += [f'session = ort.InferenceSession("model.onnx", options, providers={named!r})', ""]
    lines += _python_input(entry)
    lines += [
        f'logits = session.run(None, {{"{entry["name"]}": images}})[0]',
        "classes = logits.argmax(axis=1)",
    ]
    return "\n".join(lines) + "\n"


def _python_input(entry: Record) -> list[str]:
    shape = tuple(1 if size is None else size for size in entry["shape"])
    known = entry["normalisation"]
    if entry["type"] == "tensor(uint8)":
        text = f"images = np.zeros({shape}, np.uint8)"
        return [f"{text}  # yours: {entry['layout']}, 0 to 255"]
    if known is None:
        return [f"images = np.zeros({shape}, np.float32)  # yours: {entry['layout']}"]
    before, after = known["border"] if known["resized_to"] is None else (0, 0)
    n, channels, height, width = shape
    pixels = (n, height - before - after, width - before - after, channels)
    lines = [
        f"pixels = np.zeros({pixels}, np.uint8)  # yours: n x height x width x channels, 0 to 255"
    ]
    if before or after:
        around = f"({before}, {after})"
        lines.append(f"pixels = np.pad(pixels, ((0, 0), {around}, {around}, (0, 0)))")
    mean, deviation = known["mean"], known["deviation"]
    return [
        *lines,
        f"images = (pixels / 255 - np.array({mean})) / np.array({deviation})",
        "images = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)",
    ]


def cpp_code(record: Record) -> str:
    """A program of the same in C++ with onnxruntime's own header; it prints the first class."""
    session, entry = record["session"], record["input"]
    shape = [1 if size is None else size for size in entry["shape"]]
    is_bytes = entry["type"] == "tensor(uint8)"
    element = "uint8_t" if is_bytes else "float"
    provider = session["providers"][0][0]
    said = "pixels, 0 to 255" if is_bytes else "yours, preprocessed as above"
    lines = [
        "// c++ -std=c++17 run.cpp -I$ONNXRUNTIME/include -L$ONNXRUNTIME/lib -lonnxruntime",
        "#include <onnxruntime_cxx_api.h>",
        "#include <algorithm>",
        "#include <array>",
        "#include <iostream>",
        "#include <vector>",
        "",
        "int main() {",
    ]
    body = [
        "Ort::Env env;",
        "Ort::SessionOptions options;",
        f"options.SetIntraOpNumThreads({session['threads']});",
        f"options.SetGraphOptimizationLevel({_LEVELS[session['optimisation']]});",
        *([] if session["arena"] else ["options.DisableCpuMemArena();"]),
        *([] if session["memory_pattern"] else ["options.DisableMemPattern();"]),
        *(
            f'options.AddConfigEntry("{key}", "{value}");'
            for key, value in session["config_entries"].items()
        ),
        *(
            []
            if provider == "CPUExecutionProvider"
            else [f"// append {provider} with the options that bundle.json names"]
        ),
        'Ort::Session session(env, "model.onnx", options);',
        f"std::array<int64_t, 4> shape{{{', '.join(map(str, shape))}}};",
        f"std::vector<{element}> images({' * '.join(map(str, shape))});  // {said}",
        "auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);",
        f"auto input = Ort::Value::CreateTensor<{element}>(",
        "    memory, images.data(), images.size(), shape.data(), shape.size());",
        f'const char *inputs[] = {{"{entry["name"]}"}}, '
        f'*outputs[] = {{"{record["output"]["name"]}"}};',
        "auto answer = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);",
        "const float *logits = answer[0].GetTensorData<float>();",
        "auto classes = answer[0].GetTensorTypeAndShapeInfo().GetShape()[1];",
        'std::cout << std::max_element(logits, logits + classes) - logits << "\\n";',
    ]
    return "\n".join([*lines, *(f"  {line}" for line in body), "}"]) + "\n"
