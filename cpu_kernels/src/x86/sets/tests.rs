//! Each operation of each set against the same in plain Rust.

use super::*;
use crate::x86::format::Bf16;

/// Some numbers of every kind, and a deterministic noise: 16 at a time.
fn samples() -> Vec<[f32; 16]> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1.0 + f32::EPSILON,
        1e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::from_bits(0x7f80_0001),
        // Halfway between two values of bf16, above an even and above an odd one; just beside that.
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
        f32::from_bits(0x3f80_8001),
        f32::from_bits(0x3f81_7fff),
        f32::from_bits(0x7f7f_ffff),
    ];
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // An exponent from -10 to 10, so that nothing is denormal.
        let exponent = 117 + (state >> 8) % 21;
        f32::from_bits(state & 0x8000_0000 | exponent << 23 | (state >> 3) & 0x7f_ffff)
    };
    let noise = (0..100).map(|_| std::array::from_fn(|_| next()));
    std::iter::once(special).chain(noise).collect()
}

/// `x` as bf16, by the definition: the nearest, the even one of two.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let (upper, lower) = (bits >> 16, bits & 0xffff);
    let up = lower > 0x8000 || (lower == 0x8000 && upper & 1 == 1);
    (upper + u32::from(up)) as u16
}

fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// Bits that are equal for all that is not a number.
fn bits(x: f32) -> u32 {
    if x.is_nan() { u32::MAX } else { x.to_bits() }
}

struct Check;

impl Task for Check {
    type Output = ();

    #[inline(always)]
    fn run<S: Set>(self, set: S) {
        let samples = samples();
        for (index, x) in samples.iter().enumerate() {
            let (a, c) = (
                &samples[(index + 1) % samples.len()],
                &samples[(index + 7) % samples.len()],
            );
            check_f32(set, x, a, c);
            check_bf16(set, x, a, c);
        }
    }
}

#[inline(always)]
fn check_f32<S: Set>(set: S, x: &[f32; 16], a: &[f32; 16], c: &[f32; 16]) {
    for start in (0..16).step_by(S::WIDTH) {
        let mut got = [[0.0; 16]; 8];
        // SAFETY: `start` and a register's values lie within 16.
        unsafe {
            let [x, a, c] = [x, a, c].map(|values| set.load(values.as_ptr().add(start)));
            let all = [
                set.add(x, a),
                set.subtract(x, a),
                set.multiply_add(x, a, c),
                set.relu(x),
                set.where_positive(a, x),
                set.larger(x, a),
                set.where_larger(x, a, c, x),
                set.where_equal(x, x, a),
            ];
            for (got, all) in got.iter_mut().zip(all) {
                set.store(got.as_mut_ptr().add(start), all);
            }
        }
        for n in start..start + S::WIDTH {
            let (x, a, c) = (x[n], a[n], c[n]);
            let expected = [
                x + a,
                x - a,
                x.mul_add(a, c),
                if x < 0.0 { 0.0 } else { x },
                if a > 0.0 { x } else { 0.0 },
                if x.is_nan() || x > a { x } else { a },
                if x > a { c } else { x },
                if x.is_nan() { 0.0 } else { a },
            ];
            for (got, expected) in got.iter().zip(expected) {
                assert_eq!(bits(got[n]), bits(expected), "{x} {a} {c}");
            }
        }
    }
}

#[inline(always)]
fn check_bf16<S: Set>(set: S, x: &[f32; 16], a: &[f32; 16], c: &[f32; 16]) {
    let (mut half, mut other) = ([0u16; 16], [0u16; 16]);
    for start in (0..16).step_by(S::WIDTH) {
        let (mut wide, mut dots) = ([0.0; 16], [0.0; 16]);
        let mut rounded = [0.0f32; 16];
        // SAFETY: as above.
        unsafe {
            set.store_bf16(
                half.as_mut_ptr().add(start),
                set.load(x.as_ptr().add(start)),
            );
            set.store_bf16(
                other.as_mut_ptr().add(start),
                set.load(a.as_ptr().add(start)),
            );
            let loaded = set.load_bf16(half.as_ptr().add(start));
            set.store(wide.as_mut_ptr().add(start), loaded);
            let pairs = set.pairs(half.as_ptr().add(start), other.as_ptr().add(start));
            let turned = set.pairs(other.as_ptr().add(start), other.as_ptr().add(start));
            let dot = set.dot_pairs(pairs, turned, set.load(c.as_ptr().add(start)));
            set.store(dots.as_mut_ptr().add(start), dot);
            let [x, a] = [x, a].map(|values| set.load(values.as_ptr().add(start)));
            set.store(rounded.as_mut_ptr().add(start), set.to_pairs(x, a));
        }
        for n in start..start + S::WIDTH {
            assert_eq!(half[n], to_bf16(x[n]), "{:e} as bf16", x[n]);
            assert_eq!(bits(wide[n]), bits(from_bf16(half[n])));
            let pair = u32::from(to_bf16(a[n])) << 16 | u32::from(to_bf16(x[n]));
            assert_eq!(
                rounded[n].to_bits(),
                pair,
                "{:e} and {:e} as a pair",
                x[n],
                a[n]
            );
            let (x, a) = (from_bf16(half[n]), from_bf16(other[n]));
            let expected = x.mul_add(a, a.mul_add(a, c[n]));
            assert_eq!(bits(dots[n]), bits(expected), "{c:?} + {x}·{a} + {a}·{a}");
        }
    }
}

#[test]
fn each_operation_is_that_of_plain_code() {
    for isa in Isa::ALL {
        if isa == Isa::Generic {
            continue;
        }
        if !isa.is_present() {
            println!("skipped: {isa}, which this processor does not have");
            continue;
        }
        run::<Bf16, _>(isa, Check);
    }
}
