//! Reading gzipped tar files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::data::error::DataError;

/// Most unpacked bytes of a tarball that are read. The CIFAR-10 archives have up to 184 MB; a small file must not
/// keep the program busy for hours.
const MAX_UNPACKED: u64 = 256 << 20;

/// Calls `visit` with the name (without folders), size and content of each regular file in a tarball.
pub(super) fn for_each_file(
    tarball: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let file = File::open(tarball).map_err(DataError::io("open", tarball))?;
    let unpacked = GzDecoder::new(BufReader::new(file)).take(MAX_UNPACKED);
    let mut archive = tar::Archive::new(unpacked);
    let entries = archive.entries().map_err(DataError::io("read", tarball))?;
    // Raw: extensions for long names, which no wanted file needs, would be read into memory whatever their size.
    for entry in entries.raw(true) {
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
