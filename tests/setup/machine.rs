//! What the machine must have: its kind, a compiler, room on the disk.

use crate::checkout::Checkout;
use crate::ran::assert_fails_with;

#[test]
fn another_kind_of_machine_is_refused() {
    let checkout = Checkout::new();
    checkout.replace_tool("uname", "echo Linux aarch64");
    assert_fails_with(&checkout.setup().output().unwrap(), "this is Linux aarch64");
}

#[test]
fn a_missing_compiler_is_named() {
    let checkout = Checkout::new();
    checkout.remove_tool("c++");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "no C++ compiler 'c++'; install g++",
    );
}

#[test]
fn a_missing_mpi_is_named() {
    let checkout = Checkout::new();
    assert_fails_with(
        &checkout.setup().arg("mpi").output().unwrap(),
        "no MPI compiler 'mpicxx'; install Open MPI",
    );
}

#[test]
fn a_compiler_without_cpp17_is_refused() {
    let checkout = Checkout::new();
    checkout.replace_tool("c++", "exit 1");
    assert_fails_with(
        &checkout.setup().output().unwrap(),
        "'c++' does not compile C++17",
    );
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_fetched() {
    let checkout = Checkout::new();
    checkout.replace_tool(
        "df",
        "echo header; echo //server/my 7 disk 1000 990 10 99% /a 5% b",
    );
    assert_fails_with(&checkout.setup().output().unwrap(), "1400 MB are needed");
}
