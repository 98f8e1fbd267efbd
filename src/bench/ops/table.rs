//! The report as a table for people.

use std::fmt;

use super::list::Pass;
use super::{Operations, OpsReport, Timing};

impl fmt::Display for OpsReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "operations of a training step of ResNet-{}, batch {}, {} on {}, kernels for {}, n = {}",
            self.depth, self.batch_size, self.precision, self.device, self.isa, self.n
        )?;
        writeln!(
            f,
            "each alone, its inputs in memory; share: of the whole step"
        )?;
        writeln!(
            f,
            "bound: the part of the speed that {:.0} GFLOP/s (multiply-adds in registers) and {:.1} GB/s (a copy) allow\n",
            self.bound.gflops, self.bound.gb_per_s
        )?;
        writeln!(
            f,
            "{:47} {:^40} {:^40}",
            "", "kernels", "composed of XLA's operations"
        )?;
        let columns = format!(
            "{:>8} {:>7} {:>5} {:>5} {:>5} {:>5}",
            "ms", "GFLOP/s", "GB/s", "bound", "all", "share"
        );
        writeln!(
            f,
            "{:26} {:14} {:>5} {columns} {columns} {:>6}",
            "operation", "images", "count", "ratio"
        )?;
        let mut pass = None;
        for row in &self.operations {
            if pass.replace(row.pass) != Some(row.pass) {
                writeln!(f, "{}", name(row.pass))?;
            }
            self.row(f, row)?;
        }
        writeln!(f)?;
        let mut line = |name: &str, kernels: f64, dots: f64| {
            let ratio = dots / kernels;
            writeln!(
                f,
                "{name:11} {kernels:.0} ms, composed {dots:.0} ms, {ratio:.2} times as long"
            )
        };
        line("sum", self.sum_ms.kernels, self.sum_ms.dots)?;
        line("whole step", self.step.kernels.ms, self.step.dots.ms)?;
        let share = |sum: f64, step: Timing| 100.0 * sum / step.ms;
        write!(
            f,
            "{:11} {:.0} %, composed {:.0} %",
            "sum / step",
            share(self.sum_ms.kernels, self.step.kernels),
            share(self.sum_ms.dots, self.step.dots)
        )
    }
}

impl OpsReport {
    fn row(&self, f: &mut fmt::Formatter, row: &Operations) -> fmt::Result {
        let cells = |time: Timing, step: Timing| {
            let all = time.ms * row.count as f64;
            format!(
                "{:>8.2} {:>7.0} {:>5.1} {:>4.0}% {all:>5.0} {:>4.1}%",
                time.ms,
                row.flops as f64 / time.ms / 1e6,
                row.bytes as f64 / time.ms / 1e6,
                100.0 * row.bound_ms / time.ms,
                100.0 * all / step.ms
            )
        };
        writeln!(
            f,
            "{:26} {:14} {:>5} {} {} {:>6.2}",
            row.operation,
            row.shape,
            row.count,
            cells(row.time.kernels, self.step.kernels),
            cells(row.time.dots, self.step.dots),
            row.time.dots.ms / row.time.kernels.ms
        )
    }
}

fn name(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "forward",
        Pass::Backward => "backward",
        Pass::Update => "update",
    }
}
