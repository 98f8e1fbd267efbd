//! The options of `doctor`.

use clap::Args;

use crate::cli::options::{DataArgs, DeviceArgs};

#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub device: DeviceArgs,

    #[command(flatten)]
    pub data: DataArgs,
}
