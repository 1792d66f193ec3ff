//! Finds the daemon of a data directory, and makes sure that it is the daemon.
//!
//! `ports.json` outlives a daemon that was killed, and its port may then be anybody's. The
//! invariant: nobody gets a credential but a listener of the user whose data directory it is. Not the
//! credential itself: `credential` picks that.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::net::TcpState;
use procfs::process::Process;

use super::error::CliError;
use crate::store::Ports;

/// A daemon that was there a moment ago.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// Its process and its ports.
    pub(super) ports: Ports,
}

impl Daemon {
    /// Finds the daemon of `data_dir`.
    ///
    /// # Errors
    /// There is none, or it is not to be trusted; the message says which, and what to do.
    pub(super) fn find(data_dir: &Path) -> Result<Self, CliError> {
        let owned = || data_dir.to_owned();
        let Some(ports) = Ports::read(data_dir)? else {
            return Err(CliError::NoDaemon { data_dir: owned() });
        };
        if !is_alive(ports.pid) {
            return Err(CliError::DaemonDied { data_dir: owned(), pid: ports.pid });
        }
        let daemon = Self { data_dir: owned(), ports };
        let listener = listener_uid(daemon.ports.api);
        daemon.vouched_for(listener, owner(data_dir))
    }

    /// This daemon, if what listens on its port belongs to the user whose data directory it is.
    fn vouched_for(self, listener: Option<u32>, owner: Option<u32>) -> Result<Self, CliError> {
        let Self { data_dir, ports, .. } = &self;
        let (data_dir, port) = (data_dir.clone(), ports.api);
        match listener {
            None => Err(CliError::NotListening { data_dir, pid: ports.pid, port }),
            Some(uid) if Some(uid) != owner => Err(CliError::ForeignListener { data_dir, port, uid }),
            Some(_) => Ok(self),
        }
    }

    /// Where its HTTP surface is.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.api)
    }

    /// Where its shared bus is.
    pub(super) fn bus_address(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ports.bus)
    }
}

/// The user whose data directory this is. A directory that many share does not say, but the root key
/// in it does: it can be looked at even where it cannot be read.
fn owner(data_dir: &Path) -> Option<u32> {
    let uid = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid());
    match uid(&data_dir.join("root.key")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(data_dir).map(|it| it.uid()).ok()
        }
        found => found.ok(),
    }
}

/// Whether the process is there and more than a zombie that its parent has not asked about.
fn is_alive(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    let state = Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.state);
    state.is_ok_and(|state| !matches!(state, 'Z' | 'X' | 'x'))
}

/// The user whose program listens on this port of 127.0.0.1, if one does.
fn listener_uid(port: u16) -> Option<u32> {
    let listens = |entry: &procfs::net::TcpNetEntry| {
        let address = entry.local_address;
        let reaches = address.ip().is_loopback() || address.ip().is_unspecified();
        entry.state == TcpState::Listen && address.port() == port && reaches
    };
    procfs::net::tcp().ok()?.into_iter().find(listens).map(|entry| entry.uid)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    /// A data directory with a root key, in which a daemon with this pid and port once was ready.
    pub(in super::super) fn data_dir(pid: u32, api: u16) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let ports = format!(
            r#"{{"pid":{pid},"api":{api},"bus":1,"plugins":{{}},"startedAt":"2026-01-02T03:04:05Z"}}"#
        );
        fs::write(directory.path().join("ports.json"), ports).unwrap();
        let key = format!("bkg_root_{}", "A".repeat(43));
        fs::write(directory.path().join("root.key"), key).unwrap();
        directory
    }

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_daemon_that_listens_is_found() {
        let (_listener, port) = listener();
        let directory = data_dir(std::process::id(), port);
        let daemon = Daemon::find(directory.path()).unwrap();
        assert_eq!(daemon.address(), format!("http://127.0.0.1:{port}"));
        assert_eq!(daemon.bus_address(), "ws://127.0.0.1:1");
    }

    #[test]
    fn a_directory_without_a_daemon_says_how_to_start_one() {
        let directory = tempfile::tempdir().unwrap();
        let shown = directory.path().display();
        assert_eq!(
            Daemon::find(directory.path()).unwrap_err().to_string(),
            format!("no daemon runs on `{shown}`: start one with `bkg serve --data-dir {shown}`")
        );
    }

    #[test]
    fn a_killed_daemon_is_not_alive_not_even_as_a_zombie() {
        let (_listener, port) = listener();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let directory = data_dir(child.id(), port);
        Daemon::find(directory.path()).unwrap();
        child.kill().unwrap();
        // Waits for its end without reaping it: until then it is a zombie.
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), flags).unwrap();
        let zombie = Daemon::find(directory.path()).unwrap_err();
        child.wait().unwrap();
        for error in [zombie, Daemon::find(directory.path()).unwrap_err()] {
            assert!(matches!(error, CliError::DaemonDied { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_process_that_does_not_listen_is_not_asked() {
        let (listener, port) = listener();
        drop(listener);
        let directory = data_dir(std::process::id(), port);
        let error = Daemon::find(directory.path()).unwrap_err();
        assert!(matches!(error, CliError::NotListening { .. }), "{error:?}");
    }

    #[test]
    fn a_listener_of_another_user_is_not_the_daemon() {
        let (_listener, port) = listener();
        let directory = data_dir(std::process::id(), port);
        let own = listener_uid(port);
        assert_eq!(own, Some(nix::unistd::geteuid().as_raw()));
        let find = || Daemon::find(directory.path()).unwrap();
        find().vouched_for(own, own).unwrap();
        for (listener, owner) in [(Some(1_001), Some(1_000)), (Some(1_001), None)] {
            let error = find().vouched_for(listener, owner).unwrap_err();
            assert!(matches!(error, CliError::ForeignListener { uid: 1_001, .. }), "{error:?}");
        }
    }

    #[test]
    fn without_a_root_key_the_directory_says_whose_daemon_it_is() {
        let (_listener, port) = listener();
        let directory = data_dir(std::process::id(), port);
        let own = Some(nix::unistd::geteuid().as_raw());
        assert_eq!(owner(directory.path()), own);
        fs::remove_file(directory.path().join("root.key")).unwrap();
        assert_eq!(owner(directory.path()), own);
        assert_eq!(owner(&directory.path().join("nowhere")), None);
        Daemon::find(directory.path()).unwrap();
    }
}
