//! Several processes that share a run, under a real `mpirun` on this machine.
//!
//! The tests skip, and say why, where there is no `mpirun` or where `./setup mpi` has not run.

#[path = "../program/mod.rs"]
mod program;

mod agreement;
mod ending;
mod launching;
mod learning;
mod together;
