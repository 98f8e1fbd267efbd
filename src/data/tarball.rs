//! Reading gzipped tar files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::error::DataError;

/// Calls `visit` with the name (without folders), size and content of every regular file in a tarball.
pub(super) fn for_each_file(
    tarball: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let file = File::open(tarball).map_err(DataError::io("open", tarball))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let entries = archive.entries().map_err(DataError::io("read", tarball))?;
    for entry in entries {
        let mut entry = entry.map_err(DataError::io("read", tarball))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(DataError::io("read", tarball))?;
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = name.to_string();
        let size = entry.size();
        visit(&name, size, &mut entry)?;
    }
    Ok(())
}
