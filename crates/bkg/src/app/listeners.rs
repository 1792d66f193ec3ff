//! The host's listeners: on loopback always, elsewhere where the configuration says so.
//!
//! Not who is served there: each listener carries its [`Entrance`], and `web` keeps it. The bus is on
//! loopback only, and there is no setting for anything else.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};
use tracing::{debug, info, warn};

use super::AppError;
use crate::config::{Exposure, HostConfig};
use crate::web::{Entrance, Listener, Tls};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Where HTTP is spoken.
pub(super) struct Api {
    /// All listeners, the one on `127.0.0.1` first.
    pub(super) listeners: Vec<Listener>,
    /// The addresses of `api.listen`, with the ports that were free.
    pub(super) elsewhere: Vec<SocketAddr>,
    /// The certificate, if there is one: somebody has to renew it.
    pub(super) tls: Option<Tls>,
}

/// Reads the certificate and binds the listeners of the HTTP surface.
pub(super) fn api(config: &HostConfig) -> Result<Api, AppError> {
    let tls = config.tls.is_set().then(|| Tls::load(&config.tls)).transpose()?;
    let own = loopback(config.api_port)?;
    let mut listeners: Vec<Listener> =
        own.into_iter().map(|socket| Listener { socket, entrance: Entrance::ThisMachine }).collect();
    let mut elsewhere = Vec::new();
    for (address, exposure) in config.exposures() {
        let socket = bind(address, &format!("HTTP on {}", address.ip()), "--listen")?;
        let entrance = match (exposure, &tls) {
            (Exposure::Tls, Some(tls)) => Entrance::Tls(tls.clone()),
            (Exposure::Tls, None) => unreachable!("there is TLS where a certificate is configured"),
            (Exposure::ThisMachine, _) => Entrance::ThisMachine,
            (Exposure::Proxies, _) => Entrance::Proxies,
        };
        let address = socket.local_addr()?;
        info!(%address, ?exposure, "listening");
        elsewhere.push(address);
        listeners.push(Listener { socket, entrance });
    }
    if tls.is_some() && elsewhere.is_empty() {
        warn!("there is a certificate, but no address in `api.listen` to use it at");
    }
    Ok(Api { listeners, elsewhere, tls })
}

/// `127.0.0.1`, and `[::1]` where the machine has it, on the same port. Port 0
/// takes a free one.
fn loopback(port: u16) -> Result<Vec<TcpListener>, AppError> {
    let v4 = bind((Ipv4Addr::LOCALHOST, port).into(), "HTTP", "--api-port")?;
    let taken = v4.local_addr()?.port();
    let mut listeners = vec![v4];
    match bind((Ipv6Addr::LOCALHOST, taken).into(), "HTTP on [::1]", "--api-port") {
        Ok(v6) => listeners.push(v6),
        // Clients that resolve `localhost` to [::1] first would reach the other program: refuse.
        Err(taken @ AppError::PortTaken { .. }) if port != 0 => return Err(taken),
        Err(error) => debug!(%error, "only IPv4 is served"),
    }
    Ok(listeners)
}

/// The listener of the shared bus.
pub(super) fn bus(port: u16) -> Result<TcpListener, AppError> {
    bind((Ipv4Addr::LOCALHOST, port).into(), "the plugin bus", "--bus-port")
}

fn bind(address: SocketAddr, what: &str, flag: &'static str) -> Result<TcpListener, AppError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if address.is_ipv6() {
            // One address is one address: `[::]` means no IPv4 besides, whatever the machine thinks.
            set_ipv6_v6only(&socket, true)?;
        }
        // A port whose last owner was killed is free although old connections linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let (port, what) = (address.port(), what.to_owned());
    listen().map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => AppError::PortTaken { port, what, flag },
        ErrorKind::PermissionDenied if port < 1_024 => AppError::PortForbidden { port, what },
        _ => AppError::Listen { port, what, source },
    })
}
