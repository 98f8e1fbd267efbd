//! The instruction set that the kernels are compiled for and chosen by.

use std::fmt;

/// Names the instruction set to use, so that a processor can be treated as one that has less.
pub const VARIABLE: &str = "RESNET_XLA_ISA";

/// An instruction set that the program has code for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// No kernels of our own: XLA's operations alone, which run on every processor.
    Generic,
    /// AVX2 with FMA.
    Avx2,
}

/// Why the instruction set that [`VARIABLE`] names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    #[error("{VARIABLE} is `{got}`; expected auto, avx2 or generic")]
    Unknown { got: String },
    #[error("{VARIABLE} is `avx2`, which this processor does not have; set it to auto or generic")]
    Missing,
}

impl Isa {
    /// The one that [`VARIABLE`] names; without it, or with `auto`, the best that the processor has.
    ///
    /// # Errors
    /// [`IsaError`] when it names none, or one that the processor does not have.
    pub fn chosen() -> Result<Self, IsaError> {
        let name = std::env::var_os(VARIABLE).unwrap_or_default();
        Self::named(&name.to_string_lossy(), Self::of_processor())
    }

    fn named(name: &str, best: Self) -> Result<Self, IsaError> {
        match name {
            "" | "auto" => Ok(best),
            "generic" => Ok(Self::Generic),
            "avx2" if best == Self::Avx2 => Ok(best),
            "avx2" => Err(IsaError::Missing),
            other => Err(IsaError::Unknown {
                got: other.to_owned(),
            }),
        }
    }

    /// The best that the processor has.
    pub fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Generic
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::Avx2 => "avx2",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_can_be_treated_as_one_that_has_less_but_not_as_one_that_has_more() {
        for best in [Isa::Generic, Isa::Avx2] {
            assert_eq!(Isa::named("", best), Ok(best));
            assert_eq!(Isa::named("auto", best), Ok(best));
            assert_eq!(Isa::named("generic", best), Ok(Isa::Generic));
        }
        assert_eq!(Isa::named("avx2", Isa::Avx2), Ok(Isa::Avx2));
        assert_eq!(Isa::named("avx2", Isa::Generic), Err(IsaError::Missing));
        let error = Isa::named("sse9", Isa::Avx2).unwrap_err().to_string();
        assert_eq!(
            error,
            "RESNET_XLA_ISA is `sse9`; expected auto, avx2 or generic"
        );
    }
}
