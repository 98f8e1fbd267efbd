"""Makes the tables of docs/performance.md and docs/operations.md from the results that compare.py recorded."""

import json
import pathlib
import platform
import statistics
import subprocess
from datetime import date

BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"
# A training step costs three forward passes: one forward, two backward.
PASSES = 3


def machine():
    """The hardware and system that a measurement ran on."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split("\t:", 1) if "\t:" in line else (line, "") for line in map(str.strip, cpuinfo))
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    kib = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return {
        "date": date.today().isoformat(),
        "cpu": f"{fields.get('model name')} (family {fields.get('cpu family')}, model {fields.get('model')})",
        "vector_instructions": [flag for flag in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "memory_gib": round(kib / 2**20),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def read(path):
    """All results, by processor and kind: those behind a machine's line are of that machine, and of one session."""
    machines, here = {}, None
    for session, result in enumerate(map(json.loads, path.read_text().splitlines())):
        if result["kind"] == "machine":
            begun, here = (session, result["date"]), machines.setdefault(result["cpu"], {})
        result["session"], result["date"] = begun
        here.setdefault(result["kind"], []).append(result)
    return machines


def newest(machines, kind):
    """The results of the last machine that has some of this kind."""
    return [results for results in machines.values() if kind in results][-1]


def write(results_path, folder, program, peers, depths):
    """Replaces what stands between the markers of the pages in `folder`."""
    machines = read(results_path)
    of_each = machines.values()
    replace(folder / "performance.md", {
        "machine": [line for results in of_each for line in machine_lines(results)],
        "steps": [line for results in of_each for line in step_lines(results, program, peers, depths)],
        "input": input_lines(newest(machines, "input")),
    })
    replace(folder / "operations.md", {"ops": [line for results in of_each for line in ops_lines(results)]})


def replace(document, parts):
    text = document.read_text()
    for name, lines in parts.items():
        text = between_markers(text, name, lines)
    document.write_text(text)


def between_markers(text, name, lines):
    """`text` with `lines` between its markers `name`."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return "\n".join([before + begin, "", *lines, "", end + after])


def machine_lines(results):
    machine, roofline = results["machine"][-1], middle_roofline(results)
    return [
        f"- {machine['cpu']}, {machine['threads']} cores used, {', '.join(machine['vector_instructions'])};",
        f"  {machine['memory_gib']} GiB; {machine['system']}; {machine['date']}. A float32 matrix product of 2048 x 2048",
        f"  reaches {roofline['gemm_gflops']:.0f} GFLOP/s, a copy {roofline['memory_gb_per_s']:.0f} GB/s read and written.",
    ]


def middle_roofline(results):
    """The median of all measurements: each run of the command adds one."""
    rooflines = results["roofline"]
    return {key: statistics.median(r[key] for r in rooflines) for key in ("gemm_gflops", "memory_gb_per_s")}


def step_lines(results, program, peers, depths):
    measured = [result for result in results.get("step", []) if "error" not in result]
    lines = [f"### {results['machine'][-1]['cpu']}"]
    for depth in sorted({result["depth"] for result in measured}):
        at_depth = [result for result in measured if result["depth"] == depth]
        lines += ["", *depth_lines(depth, at_depth, middle_roofline(results), program, peers)]
    for result in results.get("step", []):
        if "error" in result:
            lines += ["", f"{result['peer']} at depth {result['depth']} gave no result: `{result['error']}`."]
    return [*lines, *missing_lines(measured, peers, depths), ""]


def newest_of(results):
    """Those of the last session alone: what was measured before is of an older program, or of another day."""
    last = max((result["session"] for result in results), default=None)
    return [result for result in results if result["session"] == last]


def missing_lines(measured, peers, depths):
    """What has no row: the peers, by the depths at which they were not measured."""
    there = {(result["peer"], result["depth"]) for result in measured}
    missing = {}
    for peer in peers:
        without = tuple(depth for depth in depths if (peer, depth) not in there)
        missing.setdefault(without, []).append(f"`{peer}`")
    missing.pop((), None)
    if not missing:
        return []
    parts = [f"{', '.join(names)} at depth {', '.join(map(str, without))}" for without, names in missing.items()]
    return ["", f"Not measured on this machine: {'; '.join(parts)}."]


def depth_lines(depth, results, roofline, program, peers):
    rows = [newest_of([result for result in results if result["peer"] == peer]) for peer in peers]
    rows = [own for own in rows if own]
    batch = results[0]["batch_size"]
    flops = forward_flops(program, depth) * PASSES * batch
    size = f"{results[0]['trainable_parameters']:,} parameters, {flops / 1e9:.0f} GFLOP a step"
    lines = [
        f"**Depth {depth}, batch {batch}**, {size}, {programs(rows)}:",
        "",
        "| program | precision | instruction set | step, ms (quartiles) | n | images/s | time over ours, f32 (rounds) "
        "| PyTorch's time over it, same precision (rounds) | of PyTorch's f32 product's speed | first step's extra, s "
        "| memory, MB | first loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [peer_row(own, results, flops, roofline) for own in rows]


def programs(rows):
    """Which of this program's commits were measured, and when."""
    ours = [f"{own[0]['git_commit']} of {own[0]['date']}" for own in rows if "git_commit" in own[0]]
    return f"resnet-xla at {' and '.join(dict.fromkeys(ours))}"


def peer_row(own, results, flops, roofline):
    """The row of the measurements `own`; ratios are to other `results` of the same rounds."""
    times = [time for result in own for time in result["times_ms"]]
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    precision = own[0]["precision"]
    pytorch = {"f32": "pytorch", "bf16": "pytorch-bf16"}[precision]
    cells = [
        f"{own[0]['name']} {own[0]['version']}",
        precision,
        instruction_set(own[0]),
        f"{median:.0f} ({q1:.0f} to {q3:.0f})",
        len(times),
        f"{own[0]['batch_size'] / median * 1e3:.1f}",
        spread_of([time / ours for time, ours in pairs(own, results, "ours")]),
        spread_of([theirs / time for time, theirs in pairs(own, results, pytorch)]),
        f"{flops / median / 1e6 / roofline['gemm_gflops']:.0%}",
        f"{statistics.median(result['compile_s'] for result in own):.1f}",
        f"{max(result['peak_rss_mb'] for result in own):.0f}",
        f"{own[0]['first_loss']:.4f}",
    ]
    return row(cells)


def instruction_set(result):
    """The one that this program's kernels ran on. Peers choose theirs themselves and do not say."""
    if result["name"] != "resnet-xla":
        return "-"
    return result.get("isa", "not recorded") if result.get("lowering", "kernels") == "kernels" else "XLA's operations"


def pairs(own, results, peer):
    """A step's time in each of `own`, with that of `peer` in the same round."""
    theirs = {(result["session"], result["round"]): result["step_ms"] for result in results if result["peer"] == peer}
    rounds = [(result["step_ms"], (result["session"], result["round"])) for result in own]
    return [(time, theirs[number]) for time, number in rounds if number in theirs]


def spread_of(ratios):
    if not ratios:
        return "-"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def ops_lines(results):
    """A table for each instruction set and precision that was measured on a machine."""
    lines = [f"### {results['machine'][-1]['cpu']}", ""]
    measured = [result for result in results.get("ops", []) if "error" not in result]
    tables = {set_and_precision(result): result for result in measured}
    if not tables:
        return [*lines, "Not measured yet: the command above does it.", ""]
    for names, result in sorted(tables.items()):
        lines += [*ops_table(*names, result), ""]
    return lines


def set_and_precision(result):
    # Reports did not name them while the kernels had one of each.
    return result.get("isa", "avx2"), result.get("precision", "f32")


def ops_table(isa, precision, result):
    bound = "not measured with it"
    if "bound" in result:
        bound = f"{result['bound']['gflops']:.0f} GFLOP/s and {result['bound']['gb_per_s']:.1f} GB/s"
    step = result["step"]
    size = f"Depth {result['depth']}, batch {result['batch_size']}, {result['device']}"
    lines = [
        "<details>",
        f"<summary>{isa}, {precision}: {result['date']}, commit {result['git_commit']}</summary>",
        "",
        f"{size}, medians of {result['n']} runs; the bound: {bound}.",
        "",
        "| operation | images | in a step | kernels, ms | GFLOP/s | GB/s | of the bound | share of the step "
        "| composed, ms | composed over kernels |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(operation["pass"] for operation in result["operations"]):
        lines.append(f"| **{name}** " + "| " * 9 + "|")
        lines += [op_row(operation, step) for operation in result["operations"] if operation["pass"] == name]
    for name, kernels, composed in [
        ("sum", result["sum_ms"]["kernels"], result["sum_ms"]["dots"]),
        ("whole step", step["kernels"]["ms"], step["dots"]["ms"]),
    ]:
        cells = [f"{kernels:.0f}", "", "", "", f"{kernels / step['kernels']['ms']:.0%}", f"{composed:.0f}", f"{composed / kernels:.2f}"]
        lines.append(row([f"**{name}**", "", "", *cells]))
    return [*lines, "", "</details>"]


def op_row(operation, step):
    """An operation's row. The bound is the report's own: what its instruction set and precision, or memory, allow."""
    flops, moved = operation["flops"] / 1e6, operation["bytes"] / 1e6
    ms, composed = operation["kernels"]["ms"], operation["dots"]["ms"]
    cells = [
        operation["operation"],
        operation["shape"],
        operation["count"],
        f"{ms:.2f}",
        f"{flops / ms:.0f}" if flops else "-",
        f"{moved / ms:.1f}",
        f"{operation['bound_ms'] / ms:.0%}" if "bound_ms" in operation else "-",
        f"{ms * operation['count'] / step['kernels']['ms']:.1%}",
        f"{composed:.2f}",
        f"{composed / ms:.2f}",
    ]
    return row(cells)


def input_lines(results):
    measured = newest_of([result for result in results.get("input", []) if "error" not in result])
    machine = results["machine"][-1]
    lines = [
        f"{machine['cpu']}, {measured[-1]['date']}:",
        "",
        "| pipeline | images/s, one thread | rounds | n | this program with the same kind of augmentation is |",
        "| --- | --- | --- | --- | --- |",
    ]
    same_kind = {"keras": "ours-keras", "torchvision": "ours-crop"}
    for peer in dict.fromkeys(result["peer"] for result in measured):
        own = [result for result in measured if result["peer"] == peer]
        rates = [result["images_per_sec"] for result in own]
        name = f"{own[0]['name']} {own[0]['version']}"
        if "augment" in own[0]:
            name += f", {own[0]['augment']}, decoding included"
        ratio = "-"
        if peer in same_kind:
            ours = {result["round"]: result["images_per_sec"] for result in measured if result["peer"] == same_kind[peer]}
            ratios = [ours[result["round"]] / result["images_per_sec"] for result in own if result["round"] in ours]
            ratio = f"{statistics.median(ratios):.0f} times as fast" if ratios else "-"
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        lines.append(row([name, f"{statistics.median(rates):,.0f}", spread, sum(result["n"] for result in own), ratio]))
    return lines


def forward_flops(program, depth):
    """FLOPs of an image's forward pass, as `summary` counts them."""
    command = [program, "summary", "--depth", str(depth), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["flops"]


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
