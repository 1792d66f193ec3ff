//! What somebody calls a backup: an archive that is read to its end before anything is unpacked.

use bkg::backup::archive::{self, Quota};

/// The size of a block of a tar.
const BLOCK: usize = 512;

/// An archive, whole or not.
pub(crate) fn archive(data: &[u8]) {
    let quota =
        Quota { files: 1_000, file_bytes: 48 << 10, total_bytes: 64 << 10, manifest_bytes: 48 << 10 };
    let manifest = match archive::read(data, &quota) {
        Ok(manifest) => manifest,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // What is accepted holds all that it names: nothing can grow, and nothing is promised only.
    let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
    assert!(bytes <= quota.total_bytes && bytes < data.len() as u64, "{bytes} of {}", data.len());
    assert!(manifest.files.iter().any(|file| file.path.as_str() == "bkg.db"));
    // Nothing but zeros can be missing from one that is whole.
    let content = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for cut in (0..content).step_by(BLOCK) {
        assert!(archive::read(&data[..cut], &quota).is_err(), "it was cut at {cut} and is whole");
    }
    // And nothing can be added, neither in front nor behind.
    assert!(archive::read([&[0; BLOCK], data].concat().as_slice(), &quota).is_err());
    assert!(archive::read([data, &data[..BLOCK]].concat().as_slice(), &quota).is_err());
}
