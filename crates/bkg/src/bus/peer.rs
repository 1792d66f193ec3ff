//! Who is at the other end of a connection to a launch's private listener: a process of that launch, or not.
//!
//! Looked up at the kernel (socket → inode → who holds it), so nothing that the peer says is believed. It
//! does not decide what follows from the answer. The invariant: `Verified` is only said of a process that
//! holds this very socket and is a member of this very launch. It reads `/proc` and blocks for a few
//! milliseconds: the bus calls it through `spawn_blocking` when it has accepted a connection.

use std::net::SocketAddr;

use procfs::ProcResult;
use procfs::net::TcpNetEntry;

use crate::registry::process_table::{LaunchProcess, ProcessRef, ProcessTable, holds_socket};

/// The socket's descriptor is there before the connection is, so a settled launch is recognised at the first
/// try. A process whose parent ends between two lines of the scan, or that is in the middle of an exec, may
/// look like a stranger once; looking again needs no pause, since a scan takes longer than that moment.
const TRIES: usize = 3;

/// Who dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// A process of the launch.
    Verified {
        /// Its pid.
        pid: u32,
    },
    /// Certainly not a process of the launch, or one that has hung up already.
    Foreign {
        /// Its pid, if it is there and we may see it.
        pid: Option<u32>,
    },
    /// The kernel does not tell.
    Unknown {
        /// One sentence on why.
        why: String,
    },
}

/// Finds the process at the `peer` address of a connection that was accepted at `local`. Blocks.
pub(super) fn identify(peer: SocketAddr, local: SocketAddr, launch: &LaunchProcess) -> Identity {
    let mut identity = look(peer, local, launch);
    for _ in 1..TRIES {
        if matches!(identity, Identity::Verified { .. }) {
            break;
        }
        identity = look(peer, local, launch);
    }
    identity
}

fn look(peer: SocketAddr, local: SocketAddr, launch: &LaunchProcess) -> Identity {
    let connections = match connections() {
        Ok(connections) => connections,
        Err(error) => {
            return Identity::Unknown {
                why: format!("the table of TCP connections cannot be read: {error}"),
            };
        }
    };
    let side = |from: SocketAddr, to: SocketAddr| {
        connections.iter().find(|entry| {
            plain(entry.local_address) == plain(from) && plain(entry.remote_address) == plain(to)
        })
    };
    // A socket that was closed has lost its inode before it leaves the table.
    let Some(socket) = side(peer, local).filter(|socket| socket.inode != 0) else {
        return match side(local, peer) {
            // Ours is listed, theirs is gone: whatever was sent before must not pass for the launch's.
            Some(_) => Identity::Foreign { pid: None },
            None => Identity::Unknown { why: "the table of TCP connections does not list this one".into() },
        };
    };
    let table = match ProcessTable::read() {
        Ok(table) => table,
        Err(error) => return Identity::Unknown { why: error.to_string() },
    };
    let members = table.living_members(&launch.into());
    let is_member = |process: &ProcessRef| members.contains(process);

    let mut unreadable = None;
    for member in &members {
        match holds_socket(member.pid, socket.inode) {
            Some(true) => return Identity::Verified { pid: member.pid },
            Some(false) => {}
            None => unreadable = Some(member.pid),
        }
    }
    // The oldest of several: the others have inherited it, if only until they execute something else.
    let others = table.entries().iter().filter(|entry| entry.alive && !is_member(&entry.reference()));
    let holders = others.filter(|other| holds_socket(other.pid, socket.inode) == Some(true));
    if let Some(holder) = holders.min_by_key(|holder| holder.start_time) {
        return Identity::Foreign { pid: Some(holder.pid) };
    }
    // Nobody whose descriptors we may read. A member that hides them is meant only if it could be the owner.
    let mut users =
        table.entries().iter().filter(|entry| is_member(&entry.reference())).map(|entry| entry.uid);
    match unreadable {
        Some(pid) if users.any(|uid| uid == socket.uid) => {
            Identity::Unknown { why: format!("the descriptors of process {pid} cannot be read") }
        }
        _ => Identity::Foreign { pid: None },
    }
}

fn connections() -> ProcResult<Vec<TcpNetEntry>> {
    let mut connections = procfs::net::tcp()?;
    // A kernel without IPv6 has no such table, and then no such sockets.
    connections.extend(procfs::net::tcp6().unwrap_or_default());
    Ok(connections)
}

/// A dual-stack socket that dialled an IPv4 address is listed with the IPv6 ones, in IPv6 clothes.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};

    use bkg_protocol::InstanceId;

    use super::*;
    use crate::registry::process_table::INSTANCE_VARIABLE;

    /// A launch that dials when it is told to; ends with the test.
    struct Dialler {
        child: Child,
        instance: InstanceId,
    }

    /// Reads ports from standard input and keeps every connection open.
    const DIAL: &str = "import socket, sys\n\
        kept = []\n\
        for line in sys.stdin:\n\
        \x20   family, address = (socket.AF_INET6, '::ffff:127.0.0.1') if line[0] == '6' else (socket.AF_INET, '127.0.0.1')\n\
        \x20   kept.append(socket.socket(family))\n\
        \x20   kept[-1].connect((address, int(line[1:])))\n";

    impl Dialler {
        fn start(python: &str) -> Self {
            let instance = InstanceId::new();
            let mut command = Command::new("python3");
            command.args(["-c", python]).env(INSTANCE_VARIABLE, instance.to_string()).stdin(Stdio::piped());
            Self { child: command.spawn().unwrap(), instance }
        }

        fn launch(&self) -> LaunchProcess {
            let process = ProcessRef::of(self.child.id()).unwrap();
            LaunchProcess { pid: process.pid, start_time: process.start_time, instance: self.instance }
        }

        /// A connection of the launch to a listener, as that listener sees it.
        fn dial(&mut self, family: char, listener: &TcpListener) -> Accepted {
            let port = listener.local_addr().unwrap().port();
            writeln!(self.child.stdin.as_mut().unwrap(), "{family}{port}").unwrap();
            Accepted::by(listener)
        }
    }

    impl Drop for Dialler {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    struct Accepted {
        stream: TcpStream,
        peer: SocketAddr,
    }

    impl Accepted {
        fn by(listener: &TcpListener) -> Self {
            let (stream, peer) = listener.accept().unwrap();
            Self { stream, peer }
        }

        fn identify(&self, launch: &LaunchProcess) -> Identity {
            identify(self.peer, self.stream.local_addr().unwrap(), launch)
        }
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_process_of_the_launch_is_verified() {
        let (listener, mut dialler) = (listener(), Dialler::start(DIAL));
        let pid = dialler.child.id();
        for family in ['4', '6'] {
            let accepted = dialler.dial(family, &listener);
            assert_eq!(accepted.identify(&dialler.launch()), Identity::Verified { pid }, "IPv{family}");
        }
    }

    #[test]
    fn a_daemonised_process_of_the_launch_is_verified() {
        // The first process waits for standard input; the one that dials has left it and its session.
        let daemonising = format!(
            "import os, sys\n\
             if os.fork() == 0:\n\
             \x20   os.setsid()\n\
             \x20   if os.fork(): os._exit(0)\n\
             \x20   exec({DIAL:?})\n\
             \x20   os._exit(0)\n\
             os.wait()\n\
             import signal; signal.pause()\n"
        );
        let (listener, mut dialler) = (listener(), Dialler::start(&daemonising));
        let accepted = dialler.dial('4', &listener);
        let first = dialler.child.id();
        match accepted.identify(&dialler.launch()) {
            Identity::Verified { pid } => assert_ne!(pid, first),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_test_process_itself_is_foreign() {
        let (listener, dialler) = (listener(), Dialler::start(DIAL));
        let _dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Accepted::by(&listener);
        let pid = Some(std::process::id());
        assert_eq!(accepted.identify(&dialler.launch()), Identity::Foreign { pid });
    }

    #[test]
    fn another_launch_is_foreign() {
        let (listener, launched) = (listener(), Dialler::start(DIAL));
        let mut other = Dialler::start(DIAL);
        let accepted = other.dial('4', &listener);
        let pid = other.child.id();
        assert_eq!(accepted.identify(&launched.launch()), Identity::Foreign { pid: Some(pid) });
        assert_eq!(accepted.identify(&other.launch()), Identity::Verified { pid });
    }

    #[test]
    fn a_recycled_pid_is_foreign() {
        let (listener, mut dialler) = (listener(), Dialler::start(DIAL));
        let accepted = dialler.dial('4', &listener);
        let before = LaunchProcess {
            start_time: dialler.launch().start_time - 1,
            instance: InstanceId::new(),
            ..dialler.launch()
        };
        assert_eq!(accepted.identify(&before), Identity::Foreign { pid: Some(dialler.child.id()) });
    }

    #[test]
    fn a_peer_that_has_hung_up_is_not_let_in_by_what_it_sent() {
        let (listener, dialler) = (listener(), Dialler::start(DIAL));
        let mut dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        dialled.write_all(b"x").unwrap();
        drop(dialled);
        let mut accepted = Accepted::by(&listener);
        let mut sent = Vec::new();
        accepted.stream.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"x");
        assert_eq!(accepted.identify(&dialler.launch()), Identity::Foreign { pid: None });
    }

    #[test]
    fn a_connection_that_the_kernel_does_not_list_is_unknown() {
        let dialler = Dialler::start(DIAL);
        let [peer, local] = ["192.0.2.1:9", "192.0.2.2:9"].map(|address| address.parse().unwrap());
        let why = "the table of TCP connections does not list this one".into();
        assert_eq!(identify(peer, local, &dialler.launch()), Identity::Unknown { why });
    }
}
