//! Nothing stays behind however often a program runs. In a process of its own, since all tests of a file share one.

#[path = "support/installed.rs"]
mod installed;

use std::env;
use std::process::Command;
use std::sync::Arc;

use installed::installed;
use pjrt::{Plugin, Program, compile_options};

/// x + 1, in the place of x, and the sum of noise.
const STEP: &str = r#"
module @step {
  func.func public @main(%x: tensor<65536xf32> {tf.aliasing_output = 0 : i32}, %noise: tensor<65536xf32>)
      -> (tensor<65536xf32>, tensor<65536xf32>) {
    %one = stablehlo.constant dense<1.0> : tensor<65536xf32>
    %next = stablehlo.add %x, %one : tensor<65536xf32>
    %sum = stablehlo.add %x, %noise : tensor<65536xf32>
    return %next, %sum : tensor<65536xf32>, tensor<65536xf32>
  }
}"#;
const LEN: usize = 1 << 16;
const ARRAY_KIB: u64 = (LEN * size_of::<f32>()) as u64 >> 10;

/// Has the allocator keep one heap and not one for each thread, whose sizes would depend on luck.
const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");
const STEPS: u64 = 800;
/// An array lost in every fiftieth step would be more.
const MOST_KIB: u64 = STEPS / 50 * ARRAY_KIB;

#[test]
fn nothing_stays_behind_however_often_a_program_runs() {
    let Some(path) = installed("cpu/libpjrt_cpu.so", "cpu-plugin") else {
        return;
    };
    if env::var(ONE_HEAP.0).as_deref() != Ok(ONE_HEAP.1) {
        // The allocator reads it when a process starts.
        let mut again = Command::new(env::current_exe().unwrap());
        again.args(["--nocapture", "--exact"]);
        again.arg("nothing_stays_behind_however_often_a_program_runs");
        let status = again.env(ONE_HEAP.0, ONE_HEAP.1).status().unwrap();
        assert!(status.success());
        return;
    }
    let client = Plugin::load(&path).unwrap().client(&[]).unwrap();
    let program = Program::Mlir(STEP.as_bytes());
    let step = client.compile(program, &compile_options(1)).unwrap();
    let device = &client.addressable_devices().unwrap()[0];
    let mut state = client.upload(&vec![0f32; LEN], &[LEN], device).unwrap();
    let mut steps = |times: u64| {
        for _ in 0..times {
            let noise = client.upload_shared(Arc::new(vec![0.5f32; LEN]), &[LEN], device);
            let noise = noise.unwrap();
            let mut outputs = step.run(&[vec![&state, &noise]]).unwrap().remove(0);
            let sum = outputs.pop().unwrap();
            assert!(sum.download::<f32>().unwrap()[LEN - 1] >= 0.5);
            state = outputs.pop().unwrap();
        }
        resident_kib()
    };
    let early = steps(200);
    let late = steps(STEPS);
    println!("{early} KiB after 200 steps, {late} KiB after 1,000");
    assert!(late < early + MOST_KIB, "{early} KiB, then {late} KiB");
    assert_eq!(state.download::<f32>().unwrap()[0], 1000.);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}
