//! How fast each layer of ResNet-164 runs, forwards and backwards, the 3x3 layers with stride 2 of basic blocks, and the wide
//! ones of the model `fast`: batch 128, in f32 and bf16.
//!
//! Run with `cargo bench -p cpu_kernels`. An "element" is a floating-point operation of the
//! convolution, so that Gelem/s reads as GFLOP/s.

#[cfg(target_arch = "x86_64")]
mod layers;

#[cfg(target_arch = "x86_64")]
criterion::criterion_main!(layers::all);

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("skipped: there are no kernels for this processor");
}
