//! The instruction set that the kernels are compiled for and chosen by.

use std::fmt;

/// Names the instruction set to use, so that a processor can be treated as one that has less.
pub const VARIABLE: &str = "RESNET_XLA_ISA";

/// An instruction set that the program has code for. A later one has all that an earlier one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No kernels of our own: XLA's operations alone, which run on every processor.
    Generic,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 with its parts F, BW, DQ and VL.
    Avx512,
    /// The same with products of bf16.
    Avx512Bf16,
    /// The same with products of bf16 on tiles.
    Amx,
}

/// Why the instruction set that [`VARIABLE`] names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    #[error("{VARIABLE} is `{got}`; expected auto, amx, avx512-bf16, avx512, avx2 or generic")]
    Unknown { got: String },
    #[error(
        "{VARIABLE} is `{wanted}`, which this processor does not have; set it to auto or {best}"
    )]
    Missing { wanted: Isa, best: Isa },
}

impl Isa {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [
        Self::Generic,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::Amx,
    ];

    /// The one that [`VARIABLE`] names; without it, or with `auto`, [`Self::of_processor`].
    ///
    /// # Errors
    /// [`IsaError`] when it names none, or one that the processor does not have.
    pub fn chosen() -> Result<Self, IsaError> {
        let name = std::env::var_os(VARIABLE).unwrap_or_default();
        let name = name.to_string_lossy();
        Self::named(&name, Self::of_processor())
    }

    fn named(name: &str, best: Self) -> Result<Self, IsaError> {
        if ["", "auto"].contains(&name) {
            return Ok(best);
        }
        let isa = Self::ALL.into_iter().find(|isa| isa.name() == name);
        match isa {
            Some(isa) if isa <= best => Ok(isa),
            Some(wanted) => Err(IsaError::Missing { wanted, best }),
            None => Err(IsaError::Unknown {
                got: name.to_owned(),
            }),
        }
    }

    /// Whether the processor has it.
    pub fn is_present(self) -> bool {
        self <= Self::of_processor()
    }

    /// The best that the processor has.
    pub fn of_processor() -> Self {
        if crate::has_tiles() {
            return Self::Amx;
        }
        Self::of_registers()
    }

    /// The same, tiles left out.
    pub(crate) fn of_registers() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return match (has_avx512, is_x86_feature_detected!("avx512bf16")) {
                (false, _) => Self::Avx2,
                (true, false) => Self::Avx512,
                (true, true) => Self::Avx512Bf16,
            };
        }
        Self::Generic
    }

    fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_can_be_treated_as_one_that_has_less_but_not_as_one_that_has_more() {
        for best in Isa::ALL {
            let named = |name: &str| Isa::named(name, best);
            assert_eq!(named(""), Ok(best));
            assert_eq!(named("auto"), Ok(best));
            assert_eq!(named("generic"), Ok(Isa::Generic));
            for wanted in Isa::ALL {
                let expected = match wanted <= best {
                    true => Ok(wanted),
                    false => Err(IsaError::Missing { wanted, best }),
                };
                assert_eq!(named(wanted.name()), expected);
            }
        }
    }

    #[test]
    fn the_message_names_what_can_be_chosen() {
        let message = |name, best| {
            let refused = Isa::named(name, best);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            message("sse9", Isa::Avx2),
            "RESNET_XLA_ISA is `sse9`; expected auto, amx, avx512-bf16, avx512, avx2 or generic"
        );
        assert_eq!(
            message("avx512", Isa::Avx2),
            "RESNET_XLA_ISA is `avx512`, which this processor does not have; set it to auto or avx2"
        );
        assert_eq!(
            message("amx", Isa::Avx512Bf16),
            "RESNET_XLA_ISA is `amx`, which this processor does not have; set it to auto or avx512-bf16"
        );
    }
}
