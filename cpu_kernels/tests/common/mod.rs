//! What several tests of kernels need.

use cpu_kernels::Isa;

/// Numbers in [-1, 1) that fill the digits of an f32, different for each `seed`.
pub fn noise(seed: usize, count: usize) -> Vec<f32> {
    let mut state = (seed as u32).wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The instruction sets with kernels that this processor has.
pub fn sets() -> Vec<Isa> {
    let (have, lack): (Vec<Isa>, Vec<Isa>) = Isa::ALL
        .into_iter()
        .filter(|isa| *isa != Isa::Generic)
        .partition(|isa| isa.is_present());
    for isa in lack {
        println!("skipped: {isa}, which this processor does not have");
    }
    have
}
