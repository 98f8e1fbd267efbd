//! What a plugin can fail with.

pub(super) type Result<T> = std::result::Result<T, PjrtError>;

/// Why a plugin did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PjrtError {
    /// The dynamic loader's own message.
    #[error("{0}")]
    Load(String),
    #[error("it is a shared library but no PJRT plugin: it has no GetPjrtApi")]
    NoPlugin,
    #[error("its GetPjrtApi returned no function table")]
    NoTable,
    #[error("it speaks PJRT C API {major}.{minor}; expected major version {expected}")]
    Version {
        major: i32,
        minor: i32,
        expected: u32,
    },
    #[error("it has no {0}: a newer plugin does")]
    MissingFunction(&'static str),
    #[error("{function} is not implemented by this plugin: {message}")]
    Unimplemented {
        function: &'static str,
        message: String,
    },
    #[error("{function}: {message}")]
    Call {
        function: &'static str,
        message: String,
    },
}
