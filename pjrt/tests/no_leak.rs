//! Nothing stays behind however often a program runs. In a process of its own, since all tests of a file share one.

#[path = "support/installed.rs"]
mod installed;

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

#[test]
fn nothing_stays_behind_however_often_a_program_runs() {
    let Some(path) = installed("cpu/libpjrt_cpu.so", "cpu-plugin") else {
        return;
    };
    let client = Plugin::load(&path).unwrap().client(&[]).unwrap();
    let program = Program::Mlir(STEP.as_bytes());
    let step = client.compile(program, &compile_options(1)).unwrap();
    let device = &client.addressable_devices().unwrap()[0];
    let mut state = client.upload(&vec![0f32; LEN], &[LEN], device).unwrap();
    let mut steps = |times: usize| {
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
    let late = steps(800);
    println!("{early} KiB after 200 steps, {late} KiB after 1,000");
    // One array of each of the 800 steps would be 200 MiB.
    assert!(late < early + (16 << 10), "{early} KiB, then {late} KiB");
    assert_eq!(state.download::<f32>().unwrap()[0], 1000.);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}
