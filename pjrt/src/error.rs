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
    #[error("it has no extension {0}: other plugins do")]
    MissingExtension(&'static str),
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
    #[error("{function} gave no {what}; expected one from every plugin")]
    Nothing {
        function: &'static str,
        what: &'static str,
    },
    #[error("{got} values for an array of dimensions {dims:?}")]
    Count { got: usize, dims: Vec<usize> },
    #[error("the array on the device is of {got}; expected {expected}")]
    ElementType { got: String, expected: String },
    #[error("{function} gave a size that does not fit into memory")]
    TooLarge { function: &'static str },
    #[error("the plugin says that an array has the dimensions {0:?}")]
    Dimensions(Vec<i64>),
    #[error("lists of arguments for {got} devices; the program runs on {expected}")]
    Devices { got: usize, expected: usize },
    #[error("the devices get {0:?} arguments; expected as many for each")]
    Arguments(Vec<usize>),
    #[error("the {0} belongs to another client")]
    OtherClient(&'static str),
}
