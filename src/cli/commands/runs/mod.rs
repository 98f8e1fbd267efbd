//! `runs`: the runs in a folder, with their settings, accuracy, state and time.
//!
//! | file | job |
//! | --- | --- |
//! | `find` | the folders of runs in a folder |
//! | `entry` | what is known of one run |
//! | `table` | the entries as a table |

mod entry;
mod find;
mod table;

use std::io::Write;

use anyhow::Result;

use super::output::{print_json, stdout};
use crate::cli::args::RunsArgs;
use crate::system::text::shown;
use entry::Entry;

pub fn run(args: &RunsArgs) -> Result<()> {
    let runs = find::runs(&args.folder)?;
    let entries: Vec<Entry> = runs.iter().map(Entry::read).collect();
    if args.json {
        return print_json(&entries);
    }
    if entries.is_empty() {
        log::info!("there is no run in {}", shown(&args.folder));
    }
    Ok(write!(stdout(), "{}", table::of(&entries))?)
}
