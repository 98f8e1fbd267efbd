//! Starts the program: in the shared library next to it, or in a build without the XLA runtime in the binary itself.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod large_blocks;
#[cfg(feature = "trace")]
mod library;
#[cfg(feature = "trace")]
mod places;
#[cfg(feature = "trace")]
mod shared;

#[cfg(feature = "trace")]
fn main() -> std::process::ExitCode {
    shared::load_and_run()
}

#[cfg(not(feature = "trace"))]
fn main() {
    resnet_xla::cli::resnet_xla_main()
}
