//! XLA's FFI: how its CPU backend calls the kernels. All unsafe code that reads what XLA passes is here.
//!
//! ```text
//!  c_api (structs) ─► call (checked: plan, operands, results) ─► the kernels
//!            └──────► runtime (makes the kernels known to the XLA that this program is linked with)
//! ```

mod c_api;
mod call;
mod element;
mod error;
#[cfg(feature = "xla")]
mod runtime;

pub use c_api::{CallFrame, Error, Handler};
pub use call::{Call, answer};
pub use element::Element;
pub use error::CallError;
#[cfg(feature = "xla")]
pub use runtime::register;
