"""Makes the tables of docs/performance.md from the results that compare.py recorded."""

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
    """All results, by processor and kind: those behind a machine's line are of that machine."""
    machines, here = {}, None
    for result in map(json.loads, path.read_text().splitlines()):
        if result["kind"] == "machine":
            here = machines.setdefault(result["cpu"], {})
        here.setdefault(result["kind"], []).append(result)
    return machines


def newest(machines, kind):
    """The results of the last machine that has some of this kind."""
    return [results for results in machines.values() if kind in results][-1]


def write(results_path, document, program):
    """Replaces what stands between the markers of `document`."""
    machines = read(results_path)
    text = document.read_text()
    for name, lines in [
        ("machine", [line for results in machines.values() for line in machine_lines(results)]),
        ("steps", [line for results in machines.values() for line in step_lines(results, program)]),
        ("ops", ops_lines(newest(machines, "ops"))),
        ("input", input_lines(newest(machines, "input"))),
    ]:
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


def step_lines(results, program):
    measured = [result for result in results.get("step", []) if "error" not in result]
    lines = [f"### {results['machine'][-1]['cpu']}"]
    for depth in sorted({result["depth"] for result in measured}):
        at_depth = [result for result in measured if result["depth"] == depth]
        lines += ["", *depth_lines(depth, at_depth, middle_roofline(results), program)]
    for result in results.get("step", []):
        if "error" in result:
            lines += ["", f"{result['peer']} at depth {result['depth']} gave no result: `{result['error']}`."]
    return [*lines, ""]


def depth_lines(depth, results, roofline, program):
    batch = results[0]["batch_size"]
    flops = forward_flops(program, depth) * PASSES * batch
    lines = [
        f"**Depth {depth}, batch {batch}**, {results[0]['trainable_parameters']:,} parameters, {flops / 1e9:.0f} GFLOP a step:",
        "",
        "| program | precision | step, ms | quartiles | n | images/s | time over ours, f32 (rounds) | of the product's speed "
        "| first step's extra, s | memory, MB | first loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [peer_row(peer, results, flops, roofline) for peer in dict.fromkeys(result["peer"] for result in results)]
    return lines + rows


def peer_row(peer, results, flops, roofline):
    own = [result for result in results if result["peer"] == peer]
    times = [time for result in own for time in result["times_ms"]]
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    ours = {result["round"]: result["step_ms"] for result in results if result["peer"] == "ours"}
    ratios = [result["step_ms"] / ours[result["round"]] for result in own if result["round"] in ours]
    name = f"{own[0]['name']} {own[0]['version']}"
    if peer == "ours-dots":
        name += ", XLA's operations"
    cells = [
        name,
        own[0]["precision"],
        f"{median:.0f}",
        f"{q1:.0f} to {q3:.0f}",
        len(times),
        f"{own[0]['batch_size'] / median * 1e3:.1f}",
        spread_of(ratios),
        f"{flops / median / 1e6 / roofline['gemm_gflops']:.0%}",
        f"{statistics.median(result['compile_s'] for result in own):.1f}",
        f"{max(result['peak_rss_mb'] for result in own):.0f}",
        f"{own[0]['first_loss']:.4f}",
    ]
    return row(cells)


def spread_of(ratios):
    if not ratios:
        return "-"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def ops_lines(results):
    """The newest measurement of single operations."""
    measured = [result for result in results.get("ops", []) if "error" not in result]
    if not measured:
        return ["Not measured yet on this machine: the command above does it."]
    result, roofline = measured[-1], middle_roofline(results)
    note = [result["note"], ""] if "note" in result else []
    lines = [
        *note,
        f"Depth {result['depth']}, batch {result['batch_size']}, {result['device']}, medians of {result['n']} runs:",
        "",
        "| operation | images | in a step | kernels, ms | GFLOP/s | GB/s | of the bound | share of the step "
        "| composed, ms | GFLOP/s | GB/s | share of the step | composed over kernels |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(operation["pass"] for operation in result["operations"]):
        lines.append(f"| **{name}** " + "| " * 12 + "|")
        of_pass = [operation for operation in result["operations"] if operation["pass"] == name]
        lines += [op_row(operation, result["step"], roofline) for operation in of_pass]
    for name, kernels, composed in [
        ("sum", result["sum_ms"]["kernels"], result["sum_ms"]["dots"]),
        ("whole step", result["step"]["kernels"]["ms"], result["step"]["dots"]["ms"]),
    ]:
        shares = kernels / result["step"]["kernels"]["ms"], composed / result["step"]["dots"]["ms"]
        kernel_cells = [f"{kernels:.0f}", "", "", "", f"{shares[0]:.0%}"]
        lines.append(row([f"**{name}**", "", "", *kernel_cells, f"{composed:.0f}", "", "", f"{shares[1]:.0%}", f"{composed / kernels:.2f}"]))
    return lines


def op_row(operation, step, roofline):
    """An operation's row: the bound is what a product's or a copy's speed allows, whichever is slower."""
    flops, moved = operation["flops"] / 1e6, operation["bytes"] / 1e6
    bound = max(flops / roofline["gemm_gflops"], moved / roofline["memory_gb_per_s"])

    def cells(formulation):
        ms = operation[formulation]["ms"]
        share = ms * operation["count"] / step[formulation]["ms"]
        return f"{ms:.2f}", f"{flops / ms:.0f}" if flops else "-", f"{moved / ms:.1f}", f"{share:.1%}"

    ms, *rates, share = cells("kernels")
    ratio = operation["dots"]["ms"] / operation["kernels"]["ms"]
    reached = f"{bound / operation['kernels']['ms']:.0%}"
    return row([operation["operation"], operation["shape"], operation["count"], ms, *rates, reached, share, *cells("dots"), f"{ratio:.2f}"])


def input_lines(results):
    measured = [result for result in results.get("input", []) if "error" not in result]
    lines = [
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
            ratio = f"{statistics.median(ours[result['round']] / result['images_per_sec'] for result in own):.0f} times as fast"
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        lines.append(row([name, f"{statistics.median(rates):,.0f}", spread, sum(result["n"] for result in own), ratio]))
    return lines


def forward_flops(program, depth):
    """FLOPs of an image's forward pass, as `summary` counts them."""
    command = [program, "summary", "--depth", str(depth), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["flops"]


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
