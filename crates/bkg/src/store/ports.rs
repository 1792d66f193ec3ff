//! `ports.json`: where the running host listens, for scripts and for the command line.
//!
//! It is there exactly while a host is ready: written once everything listens, removed at a clean
//! stop, and a stale one is removed when the next host opens the directory. It describes processes,
//! so it need not survive a power cut.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bkg_protocol::PluginName;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{StoreError, atomic};

/// The host's listeners and those of its plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// The host's process.
    pub pid: u32,
    /// The port of the HTTP surface.
    pub api: u16,
    /// The port of the shared bus.
    pub bus: u16,
    /// Where HTTP is spoken besides loopback; left out where it is nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<SocketAddr>,
    /// The port that each plugin says it listens on itself, in catalogue order.
    pub plugins: IndexMap<PluginName, Option<u16>>,
    /// When the host started.
    pub started_at: Timestamp,
}

impl Ports {
    /// This process, starting now, with no port yet.
    pub fn of_this_process() -> Self {
        Self {
            pid: std::process::id(),
            api: 0,
            bus: 0,
            listen: Vec::new(),
            plugins: IndexMap::new(),
            started_at: Timestamp::now(),
        }
    }

    /// What the host of this data directory wrote; `None` if no host is ready there. It may have been
    /// killed since: whoever connects finds out.
    ///
    /// # Errors
    /// The disk's, or a file that is not what a host writes.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = data_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::disk("read", &path)(error)),
        };
        // What a power cut leaves of a file that was never waited for.
        if text.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match serde_json::from_slice(&text) {
            Ok(ports) => Ok(Some(ports)),
            Err(error) => Err(StoreError::Malformed { path, reason: error.to_string() }),
        }
    }

    pub(super) fn write(&self, data_dir: &Path) -> Result<(), StoreError> {
        let path = data_dir.join(FILE);
        let mut text = serde_json::to_vec(self).expect("ports have a JSON form");
        text.push(b'\n');
        atomic::replace(&path, &text, 0o600).map_err(StoreError::disk("write", &path))
    }
}

pub(super) fn remove(data_dir: &Path) -> Result<(), StoreError> {
    let path = data_dir.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::disk("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

const FILE: &str = "ports.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_left_of_it_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for left in [&b""[..], &[0; 4096]] {
            fs::write(directory.path().join(FILE), left).unwrap();
            assert_eq!(Ports::read(directory.path()).unwrap(), None);
        }
    }

    #[test]
    fn the_file_has_the_form_that_scripts_read() {
        let directory = tempfile::tempdir().unwrap();
        let ports = Ports {
            pid: 7,
            api: 43119,
            bus: 43121,
            listen: Vec::new(),
            plugins: IndexMap::from([("b".parse().unwrap(), None), ("a".parse().unwrap(), Some(8080))]),
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        assert_eq!(Ports::read(directory.path()).unwrap(), None);
        ports.write(directory.path()).unwrap();
        assert_eq!(
            fs::read_to_string(directory.path().join("ports.json")).unwrap(),
            "{\"pid\":7,\"api\":43119,\"bus\":43121,\"plugins\":{\"b\":null,\"a\":8080},\
             \"startedAt\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(Ports::read(directory.path()).unwrap(), Some(ports.clone()));
        let listen = vec!["0.0.0.0:443".parse().unwrap()];
        let ports = Ports { listen, ..ports };
        ports.write(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("ports.json")).unwrap();
        assert!(text.contains(r#""bus":43121,"listen":["0.0.0.0:443"],"plugins""#), "{text}");
        assert_eq!(Ports::read(directory.path()).unwrap(), Some(ports));
        remove(directory.path()).unwrap();
        assert_eq!(Ports::read(directory.path()).unwrap(), None);
        remove(directory.path()).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ports.json"), "{}").unwrap();
        let error = Ports::read(directory.path()).unwrap_err();
        assert!(matches!(&error, StoreError::Malformed { .. }), "{error}");
    }
}
