//! Whether this build traces computations. One without the XLA runtime runs those that were traced elsewhere.

/// Something needs computations that are still to be traced.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} needs computations to be traced, and this build has no XLA runtime for that: it runs those in a folder \
     (--program DIR) which `export --program` of a full build wrote (`./setup && cargo build --release`)"
)]
pub struct NoTracing {
    what: &'static str,
}

/// Whether `what` may trace computations.
///
/// # Errors
/// In a build without the feature `trace`.
pub fn check(what: &'static str) -> Result<(), NoTracing> {
    match cfg!(feature = "trace") {
        true => Ok(()),
        false => Err(NoTracing { what }),
    }
}
