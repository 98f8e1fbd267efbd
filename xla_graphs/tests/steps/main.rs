//! The whole training and evaluation steps of a small network.

#[path = "../common/mod.rs"]
mod common;

mod evaluation;
mod frozen;
mod layout;
mod networks;
mod replicas;
mod trainer;
mod update;
mod version1;
