//! The host's listeners, on loopback only.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};
use tracing::debug;

use super::AppError;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The HTTP listeners: `127.0.0.1`, and `[::1]` where the machine has it, on the same port. Port 0
/// takes a free one.
pub(super) fn api(port: u16) -> Result<Vec<TcpListener>, AppError> {
    let v4 = bind(Ipv4Addr::LOCALHOST.into(), port, "HTTP", "--api-port")?;
    let taken = v4.local_addr()?.port();
    let mut listeners = vec![v4];
    match bind(Ipv6Addr::LOCALHOST.into(), taken, "HTTP on [::1]", "--api-port") {
        Ok(v6) => listeners.push(v6),
        // Clients that resolve `localhost` to [::1] first would reach the other program: refuse.
        Err(taken @ AppError::PortTaken { .. }) if port != 0 => return Err(taken),
        Err(error) => debug!(%error, "only IPv4 is served"),
    }
    Ok(listeners)
}

/// The listener of the shared bus.
pub(super) fn bus(port: u16) -> Result<TcpListener, AppError> {
    bind(Ipv4Addr::LOCALHOST.into(), port, "the plugin bus", "--bus-port")
}

fn bind(
    address: IpAddr,
    port: u16,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, AppError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port whose last owner was killed is free although old connections linger.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => AppError::PortTaken { port, what, flag },
        _ => AppError::Listen { port, what, source },
    })
}
